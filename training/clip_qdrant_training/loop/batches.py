"""The batches of each epoch, in order, each prepared while the one before it trains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from clip_qdrant.errors import TrainingError
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.mixture import Mixture
from clip_qdrant_training.inputs.samples import Batch, Samples
from clip_qdrant_training.loop.distributed import Processes

__all__ = ["Batches"]


class Batches:
    """The order of a run. `size` is how many pairs a step has, of all processes together; `steps` are those of all
    epochs."""

    def __init__(self, mixture: Mixture, samples: Samples, config: TrainConfig, processes: Processes) -> None:
        self._mixture, self._samples, self._processes = mixture, samples, processes
        self._seed = config.seed
        self.size = self._choose_size(config)
        self._steps = [mixture.size(epoch) // self.size for epoch in range(config.epochs)]  # of each epoch
        self.steps = sum(self._steps)
        self._ahead = ThreadPoolExecutor(1)

    def close(self) -> None:
        self._ahead.shutdown(cancel_futures=True)

    def first(self) -> Batch:
        """What the first step of this process trains on."""
        return self._samples.prepare(self._shares(1, 0)[0], 1)

    def iterate(self, epoch: int, behind: int = 0) -> Iterator[tuple[Batch, float]]:
        """Each batch of an epoch but for the first `behind`, and how many seconds it was waited for."""
        shares = self._shares(epoch, behind)
        coming = [self._ahead.submit(self._samples.prepare, share, epoch) for share in shares[:2]]
        for number in range(len(shares)):
            at = time.perf_counter()
            batch = coming.pop(0).result()
            waiting = time.perf_counter() - at
            if number + 2 < len(shares):
                coming.append(self._ahead.submit(self._samples.prepare, shares[number + 2], epoch))
            yield batch, waiting

    def position(self, done: int) -> tuple[int, int]:
        """After `done` steps: the epoch that the next step is in, and the steps of it that are done."""
        behind = done
        for epoch, steps in enumerate(self._steps, start=1):
            if behind < steps:
                return epoch, behind
            behind -= steps
        return len(self._steps) + 1, 0

    def _shares(self, epoch: int, behind: int) -> list[Sequence[int]]:
        """This process's pairs of each step. Full batches only: a smaller last one would have easier negatives."""
        order, size = self._mixture.epoch(self._seed, epoch - 1), self.size
        parts = [order[start : start + size] for start in range(behind * size, len(order) - size + 1, size)]
        return [self._processes.share(part) for part in parts]

    def _choose_size(self, config: TrainConfig) -> int:
        """What is configured, or what there is if that is less; a multiple of the number of processes."""
        world = self._processes.world
        size = min(config.batch_size, *(self._mixture.size(epoch) for epoch in range(config.epochs)))
        if size // world < 1 or size < 2:
            raise TrainingError(f"{size} pairs an epoch are not enough for {world} processes and a contrastive loss")
        return size - size % world
