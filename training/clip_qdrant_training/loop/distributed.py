"""Several processes training one model, started by torchrun: each encodes its share of a batch, all see all rows.

    torchrun --nproc-per-node 2 -m clip_qdrant_training train.jsonl --val dev.jsonl --output mine.pt

Without torchrun there is one process, and everything here does nothing. A process that fails says why and leaves; the
others, which would wait for it forever, fail at their next exchange, or torchrun ends them before.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from clip_qdrant.errors import ConfigError, TrainingError, first_line
from clip_qdrant.runtime import cpu_count

__all__ = ["Processes", "is_main", "join_processes", "limit_threads"]

T = TypeVar("T")

# The others wait while the main process judges and writes, longer than the half hour of torch's default if need be.
_PATIENCE = timedelta(hours=4)
_MEETING = timedelta(minutes=5)

_untyped: Any = dist  # its stores are not in torch's type stubs
_runs = itertools.count(1)  # of this process, which all processes have begun alike


class Processes:
    """This process among those that train together: its `rank` of `world`."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def main(self) -> bool:
        """Whether this process shows, judges and writes."""
        return self.rank == 0

    def share(self, numbers: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch: consecutive, so that gathered rows have the order of the batch."""
        size = len(numbers) // self.world
        return numbers[self.rank * size : (self.rank + 1) * size]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in order of rank. Carries no gradient: gradients.py says how that comes back."""
        if self.world == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        with _exchange():
            dist.all_gather(parts, rows)
        return torch.cat(parts)

    def own(self, rows: Tensor) -> Tensor:
        """This process's part of gathered rows."""
        size = len(rows) // self.world
        return rows[self.rank * size : (self.rank + 1) * size]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Adds up the gradients of all processes. A parameter without a gradient in every process keeps none."""
        if self.world == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        has_one = torch.tensor([float(p.grad is not None) for p in learning], device=learning[0].device)
        with _exchange():
            dist.all_reduce(has_one)
        learning = [parameter for parameter, count in zip(learning, has_one.tolist(), strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange, not hundreds of small ones
        with _exchange():
            dist.all_reduce(flat)
        parts = torch.split(flat, [p.numel() for p in learning])
        for parameter, gradient, part in zip(learning, gradients, parts, strict=True):
            # In place: the optimiser wants the strides of the parameter, channels_last for a convolution.
            parameter.grad = gradient.copy_(part.view_as(gradient))

    def agree(self, value: T) -> T:
        """The main process's value, in every process. It is pickled on its way."""
        if self.world == 1:
            return value
        values = [value]
        with _exchange():
            dist.broadcast_object_list(values, 0)
        return values[0]


def is_main() -> bool:
    """Whether this is the process that shows and writes, known before the processes have joined."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """The processes that torchrun started, and the device of this one. Raises ConfigError for too few GPUs."""
    world = _number("WORLD_SIZE", "1")
    if world == 1:
        yield Processes(), device
        return
    rank, local = _number("RANK"), _number("LOCAL_RANK", "0")
    if device.partition(":")[0] == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; start as many "
                "processes, or give --device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    ours = not dist.is_initialized()
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if ours:
        try:
            # Under a name of its own, for a second run in these processes would find the addresses of the first.
            store = _untyped.PrefixStore(f"clip-qdrant-{next(_runs)}", _store())
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"the {world} processes of this run did not meet: {first_line(error)}; start them by torchrun"
            ) from error
    try:
        yield Processes(rank, world), device
        with _exchange():
            dist.barrier()  # nobody goes on before the main process has written everything
    except BaseException:
        # Closed connections end the others, too. NCCL would wait for them; it is torchrun that ends those.
        if ours and backend == "gloo":
            dist.destroy_process_group()
        raise
    if ours:
        dist.destroy_process_group()


@contextlib.contextmanager
def limit_threads(count: int | None, processes: Processes) -> Iterator[None]:
    """torch's threads within a block: by default this process's share of the cores, since more slow small models."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or max(1, cpu_count() // processes.world))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    """An exchange of all processes. That one of them has failed shows here as a lost connection."""
    try:
        yield
    except RuntimeError as error:  # torch's DistError is one
        raise TrainingError(
            "another process of this run has stopped, and its own message says why; then start all of them again, "
            f"with --resume if there is a run folder ({first_line(error)})"
        ) from error


@functools.cache
def _store() -> Any:
    """Where processes leave each other their addresses; the first process may be its host, for as long as it lives."""
    store, _, _ = next(_untyped.rendezvous("env://", timeout=_MEETING))
    return store


def _number(name: str, default: str = "") -> int:
    """A variable of the environment that torchrun sets."""
    value = os.environ.get(name, default)
    if not value.isdecimal():
        found = f"is {value!r}" if value else "is not set"
        raise ConfigError(f"{name} {found} in the environment: start the processes of a run by torchrun")
    return int(value)
