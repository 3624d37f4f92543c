"""Several processes training one model, started by torchrun: each encodes its share of a batch, all see all rows.

    torchrun --nproc-per-node 2 -m clip_qdrant_training train.jsonl --val dev.jsonl --output mine.pt

Without torchrun there is one process, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from clip_qdrant.errors import ConfigError

__all__ = ["Processes", "joined"]


class Processes:
    """This process among those that train together: its `rank` of `world`."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def main(self) -> bool:
        """Whether this process tells, judges and writes."""
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """This process's part of a batch: consecutive, so that gathered rows have the order of the batch."""
        size = len(numbers) // self.world
        return numbers[self.rank * size : (self.rank + 1) * size]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in order of rank. Carries no gradient: see step.py for how that comes back."""
        if self.world == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def own(self, rows: Tensor) -> Tensor:
        """This process's part of gathered rows."""
        size = len(rows) // self.world
        return rows[self.rank * size : (self.rank + 1) * size]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Gradients of all processes, added up."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

    def agree(self, value: float) -> float:
        """The main process's value, in every process."""
        if self.world == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            told = told.cuda()
        dist.broadcast(told, 0)
        return float(told)


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """The processes that torchrun started, and the device of this one. Raises ConfigError for too few GPUs."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(), device
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device.partition(":")[0] == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; start as many "
                "processes, or give --device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(rank, world), device
    finally:
        if ours:
            dist.destroy_process_group()
