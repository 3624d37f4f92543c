"""group_hits: the best hits of each value of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.hits import HitGroup, Hits
from clip_qdrant.collection.search.candidates import Chosen, Collapser
from clip_qdrant.collection.search.options import Collapse
from clip_qdrant.collection.search.request import StoreRequest
from clip_qdrant.collection.search.same_image import PAYLOAD_KEYS
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.filters.build import resolve_field

__all__ = ["group_hits"]

_GROUPED = ("keyword", "integer")
_SPARE = 4  # times the size of a group that is read where near-duplicates are left out of it, and again while it lacks
_FARTHEST = 1000  # the most that are looked at to fill a group, if it is not larger itself


def group_hits(request: StoreRequest) -> Hits:
    """The groups of a request, the one with the best hit first. Images without a value are in none."""
    options, reader = request.options, request.reader
    assert options.group_by is not None
    name = options.group_by
    try:
        key = reader.resolve(lambda fields: resolve_field(name, fields))
    except FilterError as error:
        raise FilterError(f"group_by={name!r}: {error}", unknown_field=error.unknown_field) from error
    kind = reader.description.payload_fields[key]
    if kind not in _GROUPED:
        raise QueryError(f"group_by={name!r} is of type {kind}; images are grouped by {' or '.join(_GROUPED)} fields")
    if options.collapse is None:
        found = _read_groups(request, key, options.group_size)
        groups = [HitGroup(group.id, tuple(request.make_hits(group.hits))) for group in found[options.offset :]]
    else:
        found, chosen = _read_and_collapse(request, key, options.collapse)
        groups = _fill_groups(request, chosen)
    if found and not found[options.offset :]:
        return Hits(reason=f"the offset is {options.offset}, and no more groups of {name} are found than {len(found)}")
    return Hits((hit for group in groups for hit in group.hits), groups=groups)


def _read_groups(request: StoreRequest, key: str, size: int) -> list[models.PointGroup]:
    """The groups from the first on, of `size` points at most, which carry what is shown, or what tells copies."""
    options, reader = request.options, request.reader
    with request.clock.measure("store"):
        return reader.description.ask(
            lambda: reader.client.query_points_groups(
                reader.name,
                group_by=key,
                query_filter=request.selection,
                limit=options.offset + options.limit,
                group_size=size,
                with_payload=PAYLOAD_KEYS if options.collapse else request.payload,
                with_vectors=options.collapse == "similar" if options.collapse else request.vectors,
                **request.arguments(),
            ),
            what=f"searching collection {reader.name!r}",
        ).groups


def _read_and_collapse(
    request: StoreRequest, key: str, level: Collapse
) -> tuple[list[models.PointGroup], dict[Any, list[Chosen]]]:
    """All groups, and of those that are shown the points with near-duplicates put together, by value.

    More is read while a group lacks images and has more: they may have been copies alone.
    """
    options = request.options
    size, most = options.group_size * _SPARE, max(options.group_size * _SPARE, _FARTHEST)
    while True:
        found, chosen, lacking = _read_groups(request, key, size), {}, False
        for group in found[options.offset :]:
            collapser = Collapser(level)
            for point in group.hits:
                collapser.add(point)
            chosen[group.id] = collapser.chosen[: options.group_size]
            lacking |= len(collapser.chosen) < options.group_size and len(group.hits) == size
        if not lacking or size == most:
            return found, chosen
        size = min(size * _SPARE, most)


def _fill_groups(request: StoreRequest, chosen: Mapping[Any, Sequence[Chosen]]) -> list[HitGroup]:
    """The groups as they are shown: what was chosen is read by id. An image may be in several groups."""
    scores = {one.point.id: one.point.score for kept in chosen.values() for one in kept}
    hits = {hit.id: hit for hit in request.fill_hits(list(scores), scores)}
    made = []
    for value, kept in chosen.items():
        there = [(hits[str(one.point.id)], one) for one in kept if str(one.point.id) in hits]
        if there:
            made.append(HitGroup(value, tuple(replace(hit, copies=tuple(one.copies)) for hit, one in there)))
    return made
