"""The stages as operators of Ray Data.

    feed (one task) -> load (tasks: read and decode) -> embed (actors) -> write (actors)

A row is a whole chunk, pickled. So each operator has whole batches, and none waits for the next to fill its own.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data

from clip_qdrant_ingestion.ray.board import Chunk
from clip_qdrant_ingestion.ray.chunk_worker import ChunkWorker, Job, get_worker, report_errors

__all__ = ["Embedders", "iter_chunks", "make_dataset"]

_CRASHES = 4  # of the process that works on a chunk, before the chunk is left for the next round
_WORK: dict[str, Callable[[ChunkWorker, Chunk], None]] = {
    "load": ChunkWorker.load,
    "embed": ChunkWorker.embed,
    "write": ChunkWorker.write,
}
_SCHEMA = pa.schema([("chunk", pa.large_binary())])


@dataclass(frozen=True, slots=True)
class Embedders:
    """The actors that embed: how many, and the share of a GPU that each has."""

    count: int
    gpus: float


def make_dataset(job: Job, *, embedders: Embedders, writers: int) -> ray.data.Dataset:
    """All chunks of the board, having gone through the stages.

    Only loading takes CPUs of the cluster, one for each task: so it runs on all cores, and all else beside it.
    """
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1  # byte: so a row is a block at once, where the feed would hold many back
    context.execution_no_progress_timeout_s = -1  # no limit: a listing may take its time
    context.enable_progress_bars = context.print_on_execution_start = context.enable_auto_log_stats = False
    with ray.data.DataContext.current(context):
        chunks: ray.data.Dataset = ray.data.read_datasource(_Feed(job), num_cpus=0, override_num_blocks=1)
        loaded = chunks.map_batches(partial(_load, job), num_cpus=1, batch_size=1, batch_format="pyarrow")
        embedded = loaded.map_batches(
            _Embed,
            fn_constructor_args=(job,),
            # A fixed size would have Ray warn where there are fewer chunks than actors.
            compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=embedders.count, max_size=embedders.count),
            num_cpus=0,
            num_gpus=embedders.gpus,
            batch_size=1,
            batch_format="pyarrow",
        )
        return embedded.map_batches(
            _Write,
            fn_constructor_args=(job,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=writers),
            num_cpus=0,
            batch_size=1,
            batch_format="pyarrow",
        )


def iter_chunks(rows: ray.data.Dataset) -> Iterator[Chunk]:
    """The chunks as they come back."""
    for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for packed in table["chunk"]:
            if packed.as_buffer().size:
                yield pickle.loads(packed.as_buffer())  # noqa: S301  our own workers wrote it


class _Feed(ray.data.Datasource):
    """The chunks of the board. One that has come back already is empty, when it is read again."""

    def __init__(self, job: Job) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's lacks its return type
        self._board = job.board

    def get_name(self) -> str:
        return "Chunks"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002
        per_task_row_limit: int | None = None,  # noqa: ARG002
        data_context: ray.data.DataContext | None = None,  # noqa: ARG002
    ) -> list[ray.data.ReadTask]:
        board = self._board

        def read() -> Iterator[pa.Table]:
            number = 0
            while (packed := ray.get(board.chunk.remote(number))) is not None:
                yield _table(packed)
                number += 1

        unknown = ray.data.block.BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(read, unknown, _SCHEMA)]


def _load(job: Job, table: pa.Table) -> pa.Table:
    return _step(table, job, "load")


class _Embed:
    def __init__(self, job: Job) -> None:
        self._job = job
        report_errors(job, lambda: _open(job))  # the model is there when the first chunk comes

    def __call__(self, table: pa.Table) -> pa.Table:
        return _step(table, self._job, "embed")


class _Write:
    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, table: pa.Table) -> pa.Table:
        return _step(table, self._job, "write")


def _open(job: Job) -> None:
    get_worker(job)


def _table(packed: bytes) -> pa.Table:
    return pa.Table.from_arrays([pa.array([packed], pa.large_binary())], schema=_SCHEMA)


def _step(table: pa.Table, job: Job, stage: str) -> pa.Table:
    """Takes the one chunk of a table through a stage."""
    packed: Any = table["chunk"][0].as_buffer()
    if not packed.size:
        return table
    chunk: Chunk = pickle.loads(packed)  # noqa: S301  our own driver and workers wrote it
    if ray.get(job.board.begins.remote(chunk.number, stage)) > _CRASHES:
        # Ray would try for ever. The others go on, and this one comes again when they are done.
        return _table(pickle.dumps(Chunk(chunk.number, outcomes=chunk.outcomes), protocol=5))
    report_errors(job, lambda: _WORK[stage](get_worker(job), chunk))
    return _table(pickle.dumps(chunk, protocol=5))
