"""Random filters: every kind of condition, and how they are joined."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from random import Random
from typing import Any

from qdrant_client import models

from congruence.payloads import ALBUMS, PLACES, UUIDS, WORDS

__all__ = ["CONDITIONS", "random_filter"]

_KEYS = [
    "album",
    "tags",
    "n",
    "x",
    "good",
    "when",
    "owner",
    "text",
    "place",
    "exif.iso",
    "exif.lens.name",
    "boxes[].label",
    "boxes[].size",
    "boxes[].parts[].n",
    "boxes[0].size",
    "mixed",
    "exif",
    "nowhere",
]


def _field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def _match_value(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    key, values = random.choice(
        [
            ("album", ALBUMS),
            ("tags", ALBUMS),
            ("n", range(-5, 20)),
            ("good", [True, False]),
            ("owner", UUIDS),
            ("exif.iso", [100, 200]),
            ("exif.lens.name", ALBUMS),
            ("boxes[].label", ALBUMS),
            ("boxes[].size", range(9)),
            ("boxes[0].size", range(9)),
            ("mixed", [1, 0, "1", True, "red"]),
            ("nowhere", [1]),
        ]
    )
    return _field(key, match=models.MatchValue(value=random.choice(list(values))))


def _match_any(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    key, values = random.choice(
        [("album", ALBUMS), ("tags", ALBUMS), ("n", list(range(-5, 20))), ("boxes[].label", ALBUMS)]
    )
    some = random.sample(values, random.randint(0, 3))
    return _field(key, match=random.choice([models.MatchAny(any=some), models.MatchExcept(**{"except": some})]))


def _match_text(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    words = " ".join(random.choices([*WORDS, "DOG", "bo", "house"], k=random.randint(1, 3)))
    kinds = [models.MatchText(text=words), models.MatchTextAny(text_any=words), models.MatchPhrase(phrase=words)]
    return _field(random.choice(["text", "text", "album"]), match=random.choice(kinds))


def _match_part(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    part = random.choice(["se", "a", "", "S", "city", " s"])
    kinds = [models.MatchPrefix(prefix=part), models.MatchSubstring(substring=part)]
    return _field(random.choice(["album", "tags", "text", "exif.lens.name"]), match=random.choice(kinds))


def _bounds(random: Random, low: Any, high: Any) -> dict[str, Any]:
    names = [random.choice(["gt", "gte"]), random.choice(["lt", "lte"])]
    return {name: bound for name, bound in zip(names, (low, high), strict=True) if random.random() < 0.8}


def _range(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    low = random.randint(-10, 15) / random.choice([1, 2])
    key = random.choice(["n", "x", "exif.iso", "boxes[].size", "boxes[].parts[].n", "good", "mixed"])
    return _field(key, range=models.Range(**_bounds(random, low, low + random.randint(0, 12))))


def _dates(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    low = datetime(2020, 1, 1) + timedelta(days=random.randint(0, 1500), seconds=random.randint(0, 86400))
    high = low + timedelta(days=random.randint(0, 800))
    form = random.choice(["naive", "utc", "date"])
    if form == "utc":
        low, high = low.replace(tzinfo=UTC), high.replace(tzinfo=timezone(timedelta(hours=-5)))
    ends: tuple[date, date] = (low.date(), high.date()) if form == "date" else (low, high)
    return _field("when", range=models.DatetimeRange(**_bounds(random, *ends)))


def _geo(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    lat, lon = random.choice(PLACES)
    size = random.choice([0.3, 1.0, 5.0])

    def point(up: float, right: float) -> models.GeoPoint:
        return models.GeoPoint(lat=max(-90, min(90, lat + up * size)), lon=(lon + right * size + 180) % 360 - 180)

    kind = random.choice(["box", "radius", "polygon"])
    if kind == "box":
        box = models.GeoBoundingBox(top_left=point(1, -1), bottom_right=point(-1, 1))
        return _field("place", geo_bounding_box=box)
    if kind == "radius":
        return _field("place", geo_radius=models.GeoRadius(center=point(0, 0), radius=size * 60_000))
    if abs(lon) > 170:  # rings that cross the date line are not defined
        lat, lon = 0.0, 0.0
    ring = models.GeoLineString(points=[point(1, -1), point(0.8, 1), point(-1, 0.5), point(1, -1)])
    hole = models.GeoLineString(points=[point(0.2, -0.2), point(0.2, 0.2), point(-0.2, 0.1), point(0.2, -0.2)])
    return _field("place", geo_polygon=models.GeoPolygon(exterior=ring, interiors=random.choice([None, [hole]])))


def _counts(random: Random, ids: list[Any], names: list[str]) -> models.FieldCondition:
    low = random.randint(0, 2)
    bounds = models.ValuesCount(**_bounds(random, low, low + random.randint(0, 2)))
    return _field(random.choice(_KEYS), values_count=bounds)


def _empty(random: Random, ids: list[Any], names: list[str]) -> Any:
    key = random.choice(_KEYS)
    return random.choice(
        [
            models.IsEmptyCondition(is_empty=models.PayloadField(key=key)),
            models.IsNullCondition(is_null=models.PayloadField(key=key)),
            _field(key, is_empty=random.random() < 0.5),
            _field(key, is_null=random.random() < 0.5),
        ]
    )


def _ids(random: Random, ids: list[Any], names: list[str]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=[*random.sample(ids, min(len(ids), random.randint(0, 12))), 99_999])


def _slice(random: Random, ids: list[Any], names: list[str]) -> models.SliceCondition:
    total = random.randint(1, 4)
    return models.SliceCondition(slice=models.Slice(total=total, index=random.randrange(total)))


def _has_vector(random: Random, ids: list[Any], names: list[str]) -> models.HasVectorCondition:
    return models.HasVectorCondition(has_vector=random.choice(names))


def _nested(random: Random, ids: list[Any], names: list[str]) -> models.NestedCondition:
    inner = [
        _field("label", match=models.MatchValue(value=random.choice(ALBUMS))),
        _field("size", range=models.Range(gte=random.randint(0, 5))),
        _field("parts[].n", match=models.MatchValue(value=random.randint(0, 3))),
    ]
    some = models.Filter(must=random.sample(inner, random.randint(1, 2)), must_not=random.choice([None, inner[:1]]))
    return models.NestedCondition(nested=models.Nested(key=random.choice(["boxes", "boxes[]"]), filter=some))


CONDITIONS = {
    "match": _match_value,
    "any": _match_any,
    "text": _match_text,
    "prefix": _match_part,
    "range": _range,
    "dates": _dates,
    "geo": _geo,
    "values count": _counts,
    "empty and null": _empty,
    "ids": _ids,
    "slice": _slice,
    "has vector": _has_vector,
    "nested": _nested,
}


def random_filter(
    random: Random, ids: list[Any], names: list[str], kind: str | None = None, depth: int = 0
) -> models.Filter:
    """A filter over the points of these ids and vectors; with a `kind` each of its conditions is of it."""

    def condition() -> Any:
        if kind is None and depth < 2 and random.random() < 0.12:
            return random_filter(random, ids, names, depth=depth + 1)
        return CONDITIONS[kind or random.choice(list(CONDITIONS))](random, ids, names)

    clauses: dict[str, Any] = {}
    for name in ("must", "should", "must_not"):
        if random.random() < 0.45:
            several = [condition() for _ in range(random.randint(1, 2))]
            clauses[name] = several[0] if len(several) == 1 and random.random() < 0.3 else several
    if random.random() < 0.12:
        some = [condition() for _ in range(random.randint(1, 3))]
        clauses["min_should"] = models.MinShould(conditions=some, min_count=random.randint(1, len(some)))
    return models.Filter(**(clauses or {"must": [condition()]}))
