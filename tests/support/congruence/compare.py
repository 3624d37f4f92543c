"""When two answers to one request agree: same ids, scores within a tolerance, same payloads, vectors and types.

Points of equal score may stand in any order, and where a page cuts through several of equal score, each store may have
chosen others of them. Each comparison gives what differs, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

__all__ = ["COMPARISONS", "compare_records", "is_close"]


def is_close(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(1.0, abs(one), abs(other))


def _value_difference(ours: Any, theirs: Any, tolerance: float, where: str) -> str | None:
    """Of payloads and vectors; numbers may differ in the last bit, but not in type."""
    if isinstance(ours, models.SparseVector) and isinstance(theirs, models.SparseVector):
        ours, theirs = (dict(zip(one.indices, one.values, strict=True)) for one in (ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return None if is_close(ours, theirs, tolerance) else f"{where}: {ours!r}, not {theirs!r}"
    if type(ours) is not type(theirs):
        return f"{where}: {ours!r}, not {theirs!r}"
    if isinstance(ours, Mapping):
        if ours.keys() != theirs.keys():
            return f"{where}: keys {sorted(map(str, ours))}, not {sorted(map(str, theirs))}"
        parts = (_value_difference(ours[key], theirs[key], tolerance, f"{where}.{key}") for key in ours)
        return next((one for one in parts if one), None)
    if isinstance(ours, list):
        if len(ours) != len(theirs):
            return f"{where}: {ours!r}, not {theirs!r}"
        if ours and isinstance(ours[0], float) and isinstance(theirs[0], float):
            close = np.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
            return None if close else f"{where}: {ours!r}, not {theirs!r}"
        parts = (
            _value_difference(a, b, tolerance, f"{where}[{i}]")
            for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
        )
        return next((one for one in parts if one), None)
    return None if ours == theirs else f"{where}: {ours!r}, not {theirs!r}"


def _point_difference(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if type(ours) is not type(theirs):
        return (
            f"a {type(ours).__module__}.{type(ours).__name__}, not a {type(theirs).__module__}.{type(theirs).__name__}"
        )
    where = f"point {ours.id}"
    if ours.id != theirs.id:
        return f"{where} in place of {theirs.id}"
    return (
        _value_difference(ours.payload, theirs.payload, 1e-12, f"{where}, payload")
        or _value_difference(ours.vector, theirs.vector, tolerance, f"{where}, vector")
        or _value_difference(
            _as_number(ours.order_value), _as_number(theirs.order_value), 1e-12, f"{where}, order_value"
        )
    )


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, int) else value


def compare_records(ours: Sequence[Any], theirs: Sequence[Any], tolerance: float) -> str | None:
    """Lists of points in the same order."""
    if [one.id for one in ours] != [one.id for one in theirs]:
        return f"ids {[one.id for one in ours]}, not {[one.id for one in theirs]}"
    return next((said for a, b in zip(ours, theirs, strict=True) if (said := _point_difference(a, b, tolerance))), None)


def _ranked(ours: Sequence[Any], theirs: Sequence[Any], tolerance: float, score: Callable[[Any], float]) -> str | None:
    if len(ours) != len(theirs):
        return f"{len(ours)} points {[one.id for one in ours]}, not {len(theirs)} {[one.id for one in theirs]}"
    for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if not is_close(score(a), score(b), tolerance):
            return f"score {place} is {score(a)} ({a.id}), not {score(b)} ({b.id})"
    known = {one.id: one for one in theirs}
    ends = [score(one) for one in (*theirs[:1], *theirs[-1:])]
    for one in ours:
        other = known.get(one.id)
        if other is None:
            if not any(is_close(score(one), end, tolerance) for end in ends):
                return f"point {one.id} with score {score(one)} is not among {list(known)}"
        elif not is_close(score(one), score(other), tolerance):
            return f"point {one.id} has score {score(one)}, not {score(other)}"
        elif said := _point_difference(one, other, tolerance):
            return said
    return None


def _points(ours: Any, theirs: Any, tolerance: float) -> str | None:
    return _same_type(ours, theirs) or _ranked(ours.points, theirs.points, tolerance, lambda one: one.score)


def _same_type(ours: Any, theirs: Any) -> str | None:
    if type(ours) is type(theirs):
        return None
    return f"a {type(ours).__module__}.{type(ours).__name__}, not a {type(theirs).__module__}.{type(theirs).__name__}"


def _by_order(ours: Sequence[Any], theirs: Sequence[Any], tolerance: float) -> str | None:
    """By payload value: a point with several values may come several times."""
    values = [[float(point.order_value) for point in one] for one in (ours, theirs)]
    if len(values[0]) != len(values[1]) or not np.allclose(*values, rtol=1e-9, atol=1e-9):
        return f"order values {values[0]}, not {values[1]}"
    last = values[1][-1] if values[1] else 0.0
    keyed = [{(point.id, float(point.order_value)): point for point in one} for one in (ours, theirs)]
    for key, point in keyed[0].items():
        if key not in keyed[1]:
            if key[1] != last:
                return f"{key} is not among {list(keyed[1])}"
        elif said := _point_difference(point, keyed[1][key], tolerance):
            return said
    return None


def _page(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if ours[1] != theirs[1]:
        return f"the next page begins at {ours[1]!r}, not {theirs[1]!r}"
    return compare_records(ours[0], theirs[0], tolerance)


def _ordered(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if ours[1] != theirs[1]:
        return f"the next page begins at {ours[1]!r}, not {theirs[1]!r}"
    return _by_order(ours[0], theirs[0], tolerance)


def _order_by(ours: Any, theirs: Any, tolerance: float) -> str | None:
    scores = {point.score for point in ours.points} ^ {point.score for point in theirs.points}
    return (
        _same_type(ours, theirs)
        or _by_order(ours.points, theirs.points, tolerance)
        or (f"scores {scores}" if scores else None)
    )


def _sample(ours: Any, theirs: Any, tolerance: float) -> str | None:
    """As many, none twice: which ones is left to chance."""
    ids = {one.id for one in ours.points}
    if len(ours.points) != len(theirs.points) or len(ids) != len(ours.points):
        return f"{len(ours.points)} points, {len(ids)} of them different, not {len(theirs.points)}"
    return _same_type(ours, theirs)


def _facet(ours: Any, theirs: Any, tolerance: float) -> str | None:
    counts = [[hit.count for hit in one.hits] for one in (ours, theirs)]
    if counts[0] != counts[1]:
        return f"counts {counts[0]}, not {counts[1]}"
    last = counts[1][-1] if counts[1] else 0
    sure = [{(repr(hit.value), hit.count) for hit in one.hits if hit.count != last} for one in (ours, theirs)]
    return _same_type(ours, theirs) or (f"values {sure[0] ^ sure[1]}" if sure[0] != sure[1] else None)


def _pairs(ours: Any, theirs: Any, tolerance: float) -> str | None:
    return _same_type(ours, theirs) or _pair_difference(
        *([(pair.a, pair.b, pair.score) for pair in one.pairs] for one in (ours, theirs)), tolerance
    )


def _offsets(ours: Any, theirs: Any, tolerance: float) -> str | None:
    rows = [
        [
            (one.ids[a], one.ids[b], score)
            for a, b, score in zip(one.offsets_row, one.offsets_col, one.scores, strict=True)
        ]
        for one in (ours, theirs)
    ]
    if sorted(map(str, ours.ids)) != sorted(map(str, theirs.ids)):
        return f"ids {ours.ids}, not {theirs.ids}"
    return _same_type(ours, theirs) or _pair_difference(*rows, tolerance)


def _pair_difference(ours: list[Any], theirs: list[Any], tolerance: float) -> str | None:
    """Of the nearest points of each point; the last of them may be another one of equal score."""
    found: list[dict[Any, dict[Any, float]]] = [{}, {}]
    for side, pairs in zip(found, (ours, theirs), strict=True):
        for a, b, score in pairs:
            side.setdefault(a, {})[b] = score
    if found[0].keys() != found[1].keys():
        return f"rows of {set(found[0]) ^ set(found[1])}"
    for a, row in found[0].items():
        scores, others = sorted(row.values()), sorted(found[1][a].values())
        if len(scores) != len(others) or not all(
            is_close(x, y, tolerance) for x, y in zip(scores, others, strict=True)
        ):
            return f"scores of {a}: {row}, not {found[1][a]}"
        for b, score in row.items():
            if b in found[1][a] and not is_close(score, found[1][a][b], tolerance):
                return f"{a} and {b} have score {score}, not {found[1][a][b]}"
    return None


def _groups(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if len(ours.groups) != len(theirs.groups):
        return f"groups {[one.id for one in ours.groups]}, not {[one.id for one in theirs.groups]}"
    known = {repr(one.id): one for one in theirs.groups}
    for group in ours.groups:
        other = known.get(repr(group.id))
        if other is None:
            if not is_close(group.hits[0].score, theirs.groups[-1].hits[0].score, tolerance):
                return f"group {group.id!r} is not among {list(known)}"
        elif said := _ranked(group.hits, other.hits, tolerance, lambda one: one.score):
            return f"group {group.id!r}: {said}"
        elif (group.lookup is None) != (other.lookup is None):
            return f"group {group.id!r} has lookup {group.lookup}, not {other.lookup}"
        elif group.lookup is not None and (said := _point_difference(group.lookup, other.lookup, tolerance)):
            return f"group {group.id!r}, lookup: {said}"
    return _same_type(ours, theirs)


def _batch(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if len(ours) != len(theirs):
        return f"{len(ours)} answers, not {len(theirs)}"
    return next((said for a, b in zip(ours, theirs, strict=True) if (said := _points(a, b, tolerance))), None)


def _equal(ours: Any, theirs: Any, tolerance: float) -> str | None:
    return _same_type(ours, theirs) or (None if ours == theirs else f"{ours!r}, not {theirs!r}")


def _info(ours: Any, theirs: Any, tolerance: float) -> str | None:
    """Of what is the same everywhere: how many points there are, and their vectors."""
    told = [
        (one.points_count, one.config.params.vectors, one.config.params.sparse_vectors or None)
        for one in (ours, theirs)
    ]
    return _same_type(ours, theirs) or (None if told[0] == told[1] else f"{told[0]}, not {told[1]}")


def _state(ours: Any, theirs: Any, tolerance: float) -> str | None:
    """Of what a write answers; worlds.py compares what the stores hold then."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) != len(theirs):
        return f"{len(ours)} results, not {len(theirs)}"
    return _same_type(ours, theirs)


COMPARISONS: dict[str, Callable[[Any, Any, float], str | None]] = {
    "points": _points,
    "records": compare_records,
    "page": _page,
    "ordered": _ordered,
    "order_by": _order_by,
    "sample": _sample,
    "facet": _facet,
    "search_matrix_pairs": _pairs,
    "search_matrix_offsets": _offsets,
    "groups": _groups,
    "batch": _batch,
    "equal": _equal,
    "info": _info,
    "state": _state,
}
