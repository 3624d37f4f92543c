"""Mends a damaged collection: the points that can be read are copied to a new shard, what was there is kept aside."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import qdrant_edge as engine
from pydantic_core import to_json
from qdrant_client import models

from clip_qdrant.errors import StoreDamaged, StoreError, StoreFull
from clip_qdrant.store.edge.convert.indexes import from_index_info, to_index
from clip_qdrant.store.edge.convert.results import from_record
from clip_qdrant.store.edge.convert.vectors import count_bytes
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files.engine_errors import engine_errors
from clip_qdrant.store.edge.files.flush_record import read_record
from clip_qdrant.store.edge.files.folder import EdgeFolder
from clip_qdrant.store.edge.files.open_shard import OpenShard

__all__ = ["Repair", "repair_collection"]

_T = TypeVar("_T")
_AT_ONCE = 500  # points
_CHUNKS_A_FLUSH = 40


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a collection. `damage` is None, and nothing was changed, if it was whole.

    `before` is how many points it held at the last flush, if that is known; `aside` is where its files lie now.
    """

    name: str
    kept: int
    before: int | None = None
    damage: str | None = None
    aside: Path | None = None


def repair_collection(
    root: Path, name: str, *, is_whole: Callable[[models.Record, Mapping[str, Any]], bool] = lambda *_: True
) -> Repair:
    """Reads all points of a collection and, if some are missing or cannot be read, makes a shard of the others.

    `is_whole` tells of a point, and the metadata of the collection, whether it is as it was stored. What was there is
    moved to `<root>/damaged`. A repair that is killed leaves the collection as it was, or mended.

    Raises CollectionNotFound; StoreLocked if the collection is open; StoreFull if there is no room for a copy.
    """
    folder = EdgeFolder(root)
    try:
        with folder.hold_closed(name) as (entry, path):
            before, damage = _find_damage(path)
            old, indexes, ids = None, {}, []
            try:
                with engine_errors(f"read collection {name!r}"):
                    old = engine.EdgeShard.load(str(path))
                    indexes = {key: from_index_info(info) for key, info in old.info().payload_schema.items()}
                    ids = list(_list_ids(old))
            except StoreFull:
                raise
            except StoreError as error:
                damage = damage or str(error)
            described = entry.metadata or {}
            good = [
                one.id
                for one in _read(old, ids)
                if _has_sound_vectors(one, entry) and is_whole(from_record(one), described)
            ]
            if damage is None and len(good) < len(ids):
                damage = f"{len(ids) - len(good)} of {len(ids)} points cannot be read"
            if damage is not None:
                new = folder.make_replacement(name, entry)
                _fill(new[1], indexes, _read(old, good), room=lambda size: folder.check_room(name, lambda: size))
            if old is not None:
                with contextlib.suppress(Exception):  # it is damaged, and nothing was written to it
                    old.close()
            aside = folder.put_in_place(name, *new) if damage is not None else None
            return Repair(name, len(good), before, damage, aside)
    finally:
        folder.close()


def _find_damage(path: Path) -> tuple[int | None, str | None]:
    """How many points there were, and what the files themselves show."""
    try:
        record = read_record(path)
    except StoreDamaged as error:
        return None, str(error)
    return record.points, record.find_damage(path)


def _list_ids(shard: engine.EdgeShard) -> Iterator[Any]:
    offset = None
    while True:
        request = engine.ScrollRequest(offset=offset, limit=10_000, filter=None, with_payload=False, with_vector=False)
        records, offset = shard.scroll(request)
        yield from (record.id for record in records)
        if offset is None:
            return


def _read(shard: engine.EdgeShard | None, ids: Iterable[Any]) -> Iterator[engine.Record]:
    """The points that can be read, with payload and vector."""
    if shard is None:
        return
    groups = list(_chunks(ids))[::-1]
    while groups:
        group = groups.pop()
        try:
            with engine_errors("read"):
                records = shard.retrieve(group, True, True)
        except StoreError:
            if len(group) > 1:  # one that cannot be read must not take the others along
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
            continue
        yield from records


def _has_sound_vectors(record: engine.Record, entry: CollectionEntry) -> bool:
    """Whether the vectors are some that were stored: a file that lost its content gives zeros."""
    return all(_is_sound(vector, entry.dense.get(name)) for name, vector in _vectors_of(record).items())


def _is_sound(vector: Any, params: models.VectorParams | None) -> bool:
    if isinstance(vector, engine.SparseVector):
        return bool(np.isfinite(vector.values).all())
    rows = np.atleast_2d(np.asarray(vector, np.float32))  # (rows of a multivector or 1, size)
    if params is None or rows.shape[1] != params.size or not np.isfinite(rows).all():
        return False
    if params.distance != models.Distance.COSINE:
        return True
    norms = np.linalg.norm(rows, axis=1)
    if params.datatype in (None, models.Datatype.FLOAT32, models.Datatype.FLOAT16):
        return bool((np.abs(norms - 1) < 1e-2).all())
    return bool(norms.all())


def _vectors_of(record: engine.Record) -> dict[str, Any]:
    """The vectors of a point by name; it may have none any more."""
    vectors: Any = record.vector
    return vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}


def _fill(
    new: OpenShard,
    indexes: dict[str, models.PayloadIndexInfo],
    records: Iterator[engine.Record],
    *,
    room: Callable[[int], None],
) -> None:
    shard = new.shard
    assert shard is not None
    with engine_errors("copy what can be read"):
        new.changed = True
        for key, info in indexes.items():
            room(0)
            index = to_index(info.params if info.params is not None else info.data_type.value)
            shard.update(engine.UpdateOperation.create_field_index(key, index))
        for number, chunk in enumerate(_chunks(records), 1):
            room(sum(count_bytes(_vectors_of(one)) + len(to_json(one.payload)) for one in chunk))
            points = [engine.Point(one.id, _vectors_of(one), one.payload or {}) for one in chunk]
            shard.update(engine.UpdateOperation.upsert_points(points, None, None))
            if number % _CHUNKS_A_FLUSH == 0:
                new.flush()
                new.changed = True
        new.flush()


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, _AT_ONCE)):
        yield chunk
