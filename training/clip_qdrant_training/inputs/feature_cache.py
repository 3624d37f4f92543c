"""Frozen features, kept in memory or in one file: what never learns is computed once."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clip_qdrant.errors import TrainingError

__all__ = ["FeatureCache", "stack_maps"]


class FeatureCache:
    """Frozen features by pair and view, up to a limit of bytes; what does not fit is computed each time.

    Nothing is ever evicted: a run goes through its pairs in random order, so what was seen last is not what comes next.
    """

    def __init__(self, pairs: int, views: int, limit: int, folder: Path | None) -> None:
        self._pairs, self._views, self._limit, self._folder = pairs, views, limit, folder
        self._there = np.zeros((pairs, max(1, views)), dtype=bool)
        self._maps: Tensor | None = None
        self._slots = 0
        self._file: Path | None = None

    def has(self, number: int, view: int) -> bool:
        return self._views > 0 and bool(self._there[number, view])

    def get(self, number: int, view: int) -> Tensor:
        assert self._maps is not None
        return _channels_first(self._maps[number * self._views + view])

    def put(self, number: int, view: int, maps: Tensor) -> None:
        if self._maps is None:
            every = self._pairs * self._views
            self._slots = min(every, self._limit // (maps.numel() * maps.element_size()))
            self._maps = self._space(maps)
        slot = number * self._views + view
        if slot < self._slots:
            self._maps[slot] = _channels_last(maps)
            self._there[number, view] = True

    def close(self) -> None:
        self._maps = None
        self._there[:] = False
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _space(self, maps: Tensor) -> Tensor:
        shape = (self._slots, *_channels_last(maps).shape)
        if self._folder is None or not self._slots:
            return torch.empty(shape, dtype=maps.dtype)  # the system gives memory only for what is written
        self._file = self._folder / f"features-{os.getpid()}-{id(self)}.cache"
        size = math.prod(shape)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # else a disk that is full later ends the process by a signal
                    os.posix_fallocate(file.fileno(), 0, size * maps.element_size())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.unlink()
            raise TrainingError(
                f"cannot keep {size * maps.element_size() / 1e9:.1f} GB of features in {self._folder}: "
                f"{error.strerror or error}; give a run folder on a disk with more room, or a smaller cache_gb"
            ) from error
        kept = torch.from_file(str(self._file), shared=True, size=size, dtype=maps.dtype).view(shape)
        with contextlib.suppress(OSError):  # Windows holds on to it; elsewhere it goes with its process even if killed
            self._file.unlink()
        return kept


def _channels_last(maps: Tensor) -> Tensor:
    """(C, H, W) maps of a convolutional network as (H, W, C); tokens of a transformer as they are."""
    return maps.permute(1, 2, 0) if maps.ndim == 3 else maps


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(2, 0, 1) if maps.ndim == 3 else maps


def stack_maps(maps: Sequence[Tensor]) -> Tensor:
    """One batch of maps; those of a convolutional network in channels_last, as the rest of it wants them."""
    stacked = torch.stack([_channels_last(each) for each in maps])
    return stacked.permute(0, 3, 1, 2) if stacked.ndim == 4 else stacked
