"""Random formulas over scores, payload values, places and dates."""

from __future__ import annotations

from random import Random
from typing import Any

from qdrant_client import models

from congruence.filters import random_filter
from congruence.requests import Scene

__all__ = ["random_formula"]

_DEFAULTS = {"rating": 0.5, "exif.iso": 100, "taken": "2022-01-01T00:00:00Z", "home": {"lat": 1.0, "lon": 2.0}}
_DECAYS = [
    (models.LinDecayExpression, "lin_decay"),
    (models.ExpDecayExpression, "exp_decay"),
    (models.GaussDecayExpression, "gauss_decay"),
]


def random_formula(random: Random, scene: Scene, *, sources: int) -> models.FormulaQuery:
    """A formula that is defined for every point: no roots of negative numbers, no logarithm of nothing."""
    return models.FormulaQuery(formula=_expression(random, scene, sources, 0), defaults=_DEFAULTS)


def _positive(random: Random, scene: Scene, sources: int, depth: int) -> models.SumExpression:
    inner = _expression(random, scene, sources, depth + 1)
    return models.SumExpression(sum=[models.AbsExpression(abs=inner), 1.0])


def _leaf(random: Random, scene: Scene, sources: int) -> Any:
    score = "$score" if random.random() < 0.6 else f"$score[{random.randrange(sources)}]"
    origin = models.GeoPoint(lat=50.0, lon=random.choice([10.0, -170.0]))
    return random.choice(
        [
            score,
            score,
            score,
            round(random.uniform(-2, 2), 3),
            random.choice(["rating", "exif.iso"]),
            random_filter(random, scene.ids, scene.names, random.choice(["match", "range", "ids"]))
            if random.random() < 0.2
            else models.FieldCondition(key="album", match=models.MatchValue(value="sea")),
            models.MultExpression(
                mult=[1e-6, models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=origin, to="home"))]
            ),
        ]
    )


def _expression(random: Random, scene: Scene, sources: int, depth: int) -> Any:
    if depth > 2 or random.random() < 0.25 + 0.2 * depth:
        return _leaf(random, scene, sources)

    def part() -> Any:
        return _expression(random, scene, sources, depth + 1)

    def positive() -> Any:
        return _positive(random, scene, sources, depth + 1)

    kind = random.choice(["sum", "mult", "neg", "abs", "div", "sqrt", "pow", "exp", "log10", "ln", "decay", "date"])
    match kind:
        case "sum":
            return models.SumExpression(sum=[part() for _ in range(random.randint(1, 3))])
        case "mult":
            return models.MultExpression(mult=[part() for _ in range(random.randint(1, 2))])
        case "neg":
            return models.NegExpression(neg=part())
        case "abs":
            return models.AbsExpression(abs=part())
        case "div":
            return models.DivExpression(div=models.DivParams(left=part(), right=positive(), by_zero_default=1.0))
        case "sqrt":
            return models.SqrtExpression(sqrt=positive())
        case "pow":
            return models.PowExpression(pow=models.PowParams(base=positive(), exponent=random.choice([0.5, 2.0, -1.0])))
        case "exp":  # of something from -1 to 0
            return models.ExpExpression(
                exp=models.NegExpression(neg=models.DivExpression(div=models.DivParams(left=1.0, right=positive())))
            )
        case "log10":
            return models.Log10Expression(log10=positive())
        case "ln":
            return models.LnExpression(ln=positive())
    form, name = random.choice(_DECAYS)
    if kind == "date":
        asked = models.DecayParamsExpression(
            x=models.DatetimeKeyExpression(datetime_key="taken"),
            target=models.DatetimeExpression(datetime="2022-06-01T00:00:00Z"),
            scale=86_400.0 * random.choice([30, 365]),
        )
    else:
        asked = models.DecayParamsExpression(
            x=part(),
            target=random.choice([None, 1.0, part()]),
            scale=random.choice([None, 2.0]),
            midpoint=random.choice([None, 0.25]),
        )
    return form(**{name: asked})
