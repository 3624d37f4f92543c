"""group_hits: the best hits of each value of a field."""

from __future__ import annotations

from dataclasses import replace

from qdrant_client import models

from clip_qdrant.collection.hits import HitGroup, Hits
from clip_qdrant.collection.search.candidates import Collapser
from clip_qdrant.collection.search.options import Collapse
from clip_qdrant.collection.search.request import StoreRequest
from clip_qdrant.collection.search.same_image import PAYLOAD_KEYS
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.filters.build import resolve_field

__all__ = ["group_hits"]

_GROUPED = ("keyword", "integer")
_SPARE = 4  # times the size of a group that is read where near-duplicates are left out of it


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
    size = options.group_size * (_SPARE if options.collapse else 1)
    with request.clock.measure("store"):
        found = reader.description.ask(
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
    shown = found[options.offset :]
    if found and not shown:
        return Hits(reason=f"the offset is {options.offset}, and no more groups of {name} are found than {len(found)}")
    if options.collapse:
        groups = _collapse(request, shown, options.collapse)
    else:
        groups = [HitGroup(group.id, tuple(request.make_hits(group.hits))) for group in shown]
    return Hits((hit for group in groups for hit in group.hits), groups=groups)


def _collapse(request: StoreRequest, groups: list[models.PointGroup], level: Collapse) -> list[HitGroup]:
    """The groups with near-duplicates put together; what is left is read by id. An image may be in several groups."""
    chosen = {}
    for group in groups:
        collapser = Collapser(level)
        for point in group.hits:
            collapser.add(point)
        chosen[group.id] = collapser.chosen[: request.options.group_size]
    scores = {one.point.id: one.point.score for kept in chosen.values() for one in kept}
    hits = {hit.id: hit for hit in request.fill_hits(list(scores), scores)}
    made = []
    for value, kept in chosen.items():
        there = [(hits[str(one.point.id)], one) for one in kept if str(one.point.id) in hits]
        if there:
            made.append(HitGroup(value, tuple(replace(hit, copies=tuple(one.copies)) for hit, one in there)))
    return made
