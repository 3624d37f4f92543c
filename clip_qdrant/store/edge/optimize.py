"""Optimizes a collection: reclaims the space of deleted points and builds the vector index, while the store is used.

The engine's own `optimize` holds the interpreter lock for minutes. So it runs in a child process
(`optimizer.py`), on a copy of the files; this process goes on to read and write its own. What is written
meanwhile is noted and written once more to the copy, which then takes the place of the shard. Writes wait for the copy
of the files, everything waits for the exchange, and the interpreter lock is held while the copy is opened.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qdrant_client import models
from qdrant_edge import EdgeShard

from clip_qdrant.errors import StoreError, StoreFull
from clip_qdrant.store.edge.convert.configs import merge
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files.copy import copy_files, count_bytes_on_disk
from clip_qdrant.store.edge.files.engine_errors import engine_errors
from clip_qdrant.store.edge.files.flush_record import FlushRecord
from clip_qdrant.store.edge.files.folder import EdgeFolder
from clip_qdrant.store.edge.files.journal import Journal
from clip_qdrant.store.edge.files.lock import FileLock
from clip_qdrant.store.edge.files.open_shard import OpenShard
from clip_qdrant.store.edge.files.room import NO_ROOM, check_room_for_copy
from clip_qdrant.store.edge.files.segments import count_places

__all__ = ["Optimization", "OptimizeStep", "explain_gain", "optimize_collection", "tune"]

# KB of vectors. Fewer are compared one by one: that is exact, and takes 10 ms for 50,000 of 384 numbers.
_INDEXED_FROM = 75_000
# A byte for each number, beside the vectors: three times faster to build with, and twice to search. Candidates are
# compared by the vectors themselves.
_BYTES = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
# Bytes of a number of a vector, where they are not 4.
_WIDTHS: dict[models.Datatype | None, int] = {models.Datatype.FLOAT16: 2, models.Datatype.UINT8: 1}
_HNSW = models.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000)

# It pays from here on: bytes of vectors outside the index, with which a search takes 30 ms and more; bytes of the
# vectors of deleted points, and their share of all.
_MANY_PLAIN = 150 << 20
_MANY_DELETED, _SHARE_DELETED = 64 << 20, 0.3
_MODULE = ("-m", "clip_qdrant.store.edge.optimizer")
_PAUSE = 0.2  # seconds between two looks at the child
# Changes that are left for the exchange, in which everything waits: one takes up to 15 ms.
_LEFT_FOR_THE_EXCHANGE = 10
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class OptimizeStep:
    """How far it is: "copy", "build" or "exchange", the seconds since the start, and the share of the step that is done
    where that is known."""

    name: str
    seconds: float
    done: float | None = None


@dataclass(frozen=True, slots=True)
class Optimization:
    """What became of a collection: points, those in the vector index, bytes on the disk before and now, seconds.

    Without `changed` there was nothing to do, and all is as it was.
    """

    name: str
    changed: bool
    points: int
    indexed: int
    bytes_before: int
    bytes_now: int
    seconds: float


def optimize_collection(
    folder: EdgeFolder,
    name: str,
    on_progress: Callable[[OptimizeStep], None] = lambda _: None,
    *,
    quantize: bool = True,
) -> Optimization:
    """Optimizes a collection. `on_progress` is called some times a second, in this thread.

    Killed or interrupted at any moment it leaves the collection as it was, or optimized.

    Raises CollectionNotFound; StoreLocked if another process has it open; StoreFull if the disk has no room for a copy
    of it and what is made of that; StoreError.
    """
    begin = time.monotonic()

    def tell(step: str, done: float | None = None) -> None:
        on_progress(OptimizeStep(step, time.monotonic() - begin, done))

    with folder.hold_successor(name) as (old, path, held):
        entry, before, points = _copy(folder, old, path, name, tell)
        try:
            answer = _run_child(path, held, tune(entry, points, quantize=quantize), name, tell)
            if answer["points"] != points:
                raise StoreError(
                    f"the optimized copy of collection {name!r} has {answer['points']:,} points and not {points:,}; "
                    "all is as it was"
                )
            if answer["changed"]:
                _exchange(folder, name, old, path, held, tell)
        finally:
            old.journal = None
        there = path if answer["changed"] else old.path
        try:
            now, indexed = count_bytes_on_disk(there), min(points, count_places(there).indexed)
        except FileNotFoundError:  # deleted since, or optimized again
            now, indexed = 0, 0
    return Optimization(name, answer["changed"], points, indexed, before, now, time.monotonic() - begin)


def explain_gain(folder: EdgeFolder, name: str) -> str | None:
    """What optimizing a collection would bring, in words; None if it would not pay.

    Told by the sizes of files alone. Raises CollectionNotFound, StoreError.
    """
    with folder.use(name) as (entry, shard):
        points = shard.info().points_count
        places = count_places(folder.path_of(entry))
    size = sum(4 * params.size for params in entry.dense.values())  # bytes of the vectors of one point
    deleted = max(0, places.indexed + places.plain - points)
    plain = max(min(places.plain, points), points - places.indexed)
    gains = []
    if plain * size >= _MANY_PLAIN:
        gains.append(
            f"{plain:,} of its {points:,} points are in no vector index, and each search looks at all of these"
        )
    if deleted * size >= _MANY_DELETED and deleted >= _SHARE_DELETED * (deleted + points):
        gains.append(f"{deleted * size >> 20:,} MiB on disk are of deleted points")
    return "; ".join(gains) or None


def tune(entry: CollectionEntry, points: int, *, quantize: bool = True) -> CollectionEntry:
    """The entry with what optimizing goes by: what the collection was given, else what is best for so many points."""
    given = entry.config.optimizers_config or models.OptimizersConfigDiff()
    optimizers = models.OptimizersConfigDiff(
        deleted_threshold=1e-6,  # whoever asks for it wants the space of every deleted point
        vacuum_min_vector_number=1,
        default_segment_number=given.default_segment_number or 1,
        max_segment_size=given.max_segment_size,
        indexing_threshold=_INDEXED_FROM if given.indexing_threshold is None else given.indexing_threshold,
    )
    bytes_beside = _keep_in_memory(entry.config.quantization_config or (_BYTES if quantize else None))
    changes: dict[str, Any] = {
        "optimizers_config": optimizers,
        "hnsw_config": merge(_HNSW, entry.config.hnsw_config),
        "quantization_config": bytes_beside,
    }
    if _is_indexed(entry, points, optimizers.indexing_threshold or 0):
        changes["vectors"] = _leave_on_disk(entry, quantized=bytes_beside is not None)
    return replace(entry, config=entry.config.model_copy(update=changes))


def _is_indexed(entry: CollectionEntry, points: int, threshold: int) -> bool:
    """Whether an index is built of so many points, and the bytes with it, from `threshold` KB on; never for 0.

    The largest vector decides for all. How many there are in a multivector is not known: they are taken for many.
    """
    largest = max(
        (
            math.inf if params.multivector_config else points * params.size * _WIDTHS.get(params.datatype, 4)
            for params in entry.dense.values()
        ),
        default=0,
    )
    return 0 < threshold * 1024 <= largest


def _leave_on_disk(entry: CollectionEntry, *, quantized: bool) -> models.VectorsConfig | None:
    """Vectors of which there are bytes are read for a few candidates of a search: opening need not read them all."""

    def choose(params: models.VectorParams) -> models.VectorParams:
        own = _keep_in_memory(params.quantization_config)
        said = params.on_disk is not None or params.memory is not None
        if said or not (quantized or own):
            return params.model_copy(update={"quantization_config": own})
        return params.model_copy(update={"quantization_config": own, "on_disk": True})

    vectors = entry.config.vectors
    if isinstance(vectors, models.VectorParams):
        return choose(vectors)
    return vectors and {name: choose(params) for name, params in vectors.items()}


def _keep_in_memory(quantization: models.QuantizationConfig | None) -> models.QuantizationConfig | None:
    """A search looks at the bytes of thousands of points, and they lie where the vectors do if nothing else is said."""
    if quantization is None:
        return None
    [(kind, config)] = quantization
    if config.always_ram is not None or config.memory is not None:
        return quantization
    return quantization.model_copy(update={kind: config.model_copy(update={"always_ram": True})})


def _copy(
    folder: EdgeFolder, old: OpenShard, path: Path, name: str, tell: Callable[..., None]
) -> tuple[CollectionEntry, int, int]:
    """Copies the files as a flush left them, and has what is written from then on noted.

    Gives the entry that the files go by, their bytes, and points.
    """
    with old.writing:
        if old.journal is not None:  # looked at here: two that start at once come here one after the other
            raise StoreError(f"collection {name!r} is being optimized already")
        with old.lock, engine_errors(f"flush collection {name!r}"):
            if old.shard is None:
                raise _closed_meanwhile(name)
            old.flush()
            points = old.shard.info().points_count
        size = done = 0
        for size, copied in _copy_files(old, path, name):
            done += copied
            tell("copy", done / max(size, 1))
        if old.shard is None or (entry := folder.entry_of(old)) is None:
            raise _closed_meanwhile(name)
        old.journal = Journal()
    return entry, size, points


def _copy_files(old: OpenShard, path: Path, name: str) -> Iterator[tuple[int, int]]:
    """The size of all files of a shard, and of the one that was copied, in bytes on the disk: first of none."""
    try:
        size = count_bytes_on_disk(old.path)
        check_room_for_copy(old.path, size, f"optimize collection {name!r}")
        yield size, 0
        for copied in copy_files(old.path, path):
            yield size, copied
    except OSError as error:
        if old.shard is None:  # its files go with it
            raise _closed_meanwhile(name) from error
        kind = StoreFull if error.errno in NO_ROOM else StoreError
        raise kind(f"cannot copy collection {name!r} to optimize it: {error}; all is as it was") from error


def _closed_meanwhile(name: str) -> StoreError:
    return StoreError(f"collection {name!r} was closed or deleted meanwhile")


def _run_child(
    path: Path, held: FileLock, entry: CollectionEntry, name: str, tell: Callable[..., None]
) -> dict[str, Any]:
    command = [sys.executable, *_MODULE, str(path), json.dumps(entry.to_json())]
    # The lock is held by both, and Ctrl-C is for this process alone.
    options: dict[str, Any] = {} if sys.platform == "win32" else {"pass_fds": (held.fileno(),)}
    options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603  our own module
    try:
        while True:
            tell("build")
            try:
                said, failure = child.communicate(timeout=_PAUSE)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    if child.returncode:
        raise _explain_end(name, child.returncode, failure.decode(errors="replace"))
    answer: dict[str, Any] = json.loads(said)
    return answer


def _explain_end(name: str, code: int, said: str) -> StoreError:
    what = f"the process that optimizes collection {name!r}"
    if code == -getattr(signal, "SIGBUS", math.inf):
        return StoreFull(f"{what} found no room on the disk; make room and run it again, all is as it was")
    if code == -getattr(signal, "SIGKILL", math.inf):
        return StoreError(f"{what} was killed, perhaps because memory ran out; run it again, all is as it was")
    last = said.strip().rpartition("\n")[2] or f"exit code {code}"
    return StoreError(f"{what} failed ({last}); all is as it was")


def _exchange(
    folder: EdgeFolder, name: str, old: OpenShard, path: Path, held: FileLock, tell: Callable[..., None]
) -> None:
    """Opens the copy, brings it up to date, and has it be the collection's shard."""
    journal = old.journal
    assert journal is not None
    tell("exchange")
    with engine_errors(f"open the optimized copy of collection {name!r}"):
        shard = EdgeShard.load(str(path))
    new = OpenShard(shard, held, path, FlushRecord())
    try:
        with engine_errors(f"write to the optimized copy of collection {name!r}"):
            for _ in range(_ROUNDS):
                if len(journal) <= _LEFT_FOR_THE_EXCHANGE:
                    break
                journal.apply(shard.update)
                tell("exchange")
            new.changed = True
            new.flush()  # so that little is left to be flushed while everything waits
            folder.succeed(name, old, new)
    except BaseException:
        with contextlib.suppress(Exception):
            new.close()
        raise
