"""group_hits: the best hits of each value of a field."""

from __future__ import annotations

from qdrant_client import models

from clip_qdrant.collection.hits import Hit, HitGroup, Hits
from clip_qdrant.collection.search.candidates import Collapser
from clip_qdrant.collection.search.options import Collapse
from clip_qdrant.collection.search.request import StoreRequest
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
    vectors = request.vectors or options.collapse == "similar"
    with request.clock.measure("store"):
        found = reader.description.ask(
            lambda: reader.client.query_points_groups(
                reader.name,
                group_by=key,
                query_filter=request.selection,
                limit=options.offset + options.limit,
                group_size=size,
                with_payload=True if options.collapse else request.payload,
                with_vectors=vectors,
                **request.arguments(),
            ),
            what=f"searching collection {reader.name!r}",
        )
    groups = []
    for group in found.groups[options.offset :]:
        hits = _collapse(request, group.hits, options.collapse) if options.collapse else request.make_hits(group.hits)
        groups.append(HitGroup(group.id, tuple(hits[: options.group_size])))
    return Hits((hit for group in groups for hit in group.hits), groups=groups)


def _collapse(request: StoreRequest, points: list[models.ScoredPoint], level: Collapse) -> list[Hit]:
    collapser = Collapser(level)
    for point in points:
        collapser.add(point)
    return [request.make_hit(one.point, copies=tuple(one.copies)) for one in collapser.chosen]
