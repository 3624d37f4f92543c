"""Formulas that make one score of several scores and the payload."""

from __future__ import annotations

from typing import Any, get_args

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import UnsupportedByEdge
from clip_qdrant.store.edge.convert.filters import to_condition
from clip_qdrant.store.edge.convert.geo import to_geo_point

__all__ = ["to_formula"]

_CONDITIONS = get_args(models.Condition)


def to_formula(query: models.FormulaQuery) -> engine.Formula:
    """The formula as the engine takes it."""
    return engine.Formula(_expression(query.formula), query.defaults or {})


def _expression(one: Any) -> engine.Expression:
    of = engine.Expression
    match one:
        case str():
            return of.Variable(one)
        case int() | float():
            return of.Constant(float(one))
        case models.GeoDistance(geo_distance=way):
            return of.GeoDistance(to_geo_point(way.origin), way.to)
        case models.DatetimeExpression():
            return of.Datetime(one.datetime)
        case models.DatetimeKeyExpression():
            return of.DatetimeKey(one.datetime_key)
        case models.MultExpression():
            return of.Mult(_expressions(one.mult))
        case models.SumExpression():
            return of.Sum(_expressions(one.sum))
        case models.MaxExpression():
            return of.Max(_expressions(one.max))
        case models.MinExpression():
            return of.Min(_expressions(one.min))
        case models.NegExpression():
            return of.Neg(_expression(one.neg))
        case models.AbsExpression():
            return of.Abs(_expression(one.abs))
        case models.DivExpression(div=parts):
            return of.Div(_expression(parts.left), _expression(parts.right), parts.by_zero_default)
        case models.SqrtExpression():
            return of.Sqrt(_expression(one.sqrt))
        case models.PowExpression(pow=parts):
            return of.Pow(_expression(parts.base), _expression(parts.exponent))
        case models.ExpExpression():
            return of.Exp(_expression(one.exp))
        case models.Log10Expression():
            return of.Log10(_expression(one.log10))
        case models.LnExpression():
            return of.Ln(_expression(one.ln))
        case models.AcoshExpression():
            return of.Acosh(_expression(one.acosh))
        case models.LinDecayExpression():
            return _decay(engine.DecayKind.Lin, one.lin_decay)
        case models.ExpDecayExpression():
            return _decay(engine.DecayKind.Exp, one.exp_decay)
        case models.GaussDecayExpression():
            return _decay(engine.DecayKind.Gauss, one.gauss_decay)
    if isinstance(one, _CONDITIONS):
        return of.Condition(to_condition(one))
    raise UnsupportedByEdge(f"the expression {type(one).__name__} in a formula")


def _expressions(several: list[Any]) -> list[engine.Expression]:
    return [_expression(one) for one in several]


def _decay(kind: engine.DecayKind, params: models.DecayParamsExpression) -> engine.Expression:
    target = None if params.target is None else _expression(params.target)
    return engine.Expression.Decay(kind, _expression(params.x), target, params.midpoint, params.scale)
