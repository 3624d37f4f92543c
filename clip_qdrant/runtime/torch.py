"""Encoders on torch: a GPU, or a CPU by choice. bfloat16 and channels_last on cuda; normalisation on the device.

Images go as uint8 through page-locked buffers, each with a stream of its own: while one batch is computed, another
thread's is copied. A caller that wants the GPU busy calls `embed_pixels` from two threads.
"""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import shutil
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint

__all__ = ["CudaStream", "HostStream", "Stream", "TorchRuntime", "missing_compiler", "new_stream"]

_IN_FLIGHT = 2


class Stream(Protocol):
    """A queue of work on a device, done in order."""

    def run(self, work: Callable[[], None]) -> None:
        """Queue work, and perhaps do it at once."""

    def wait(self) -> None:
        """Return when all that was queued is done."""


class HostStream:
    """Does all work at once: the CPU, and devices of which torch orders the work itself."""

    def run(self, work: Callable[[], None]) -> None:
        work()

    def wait(self) -> None:
        pass


class CudaStream:
    """A stream of a cuda device. It starts after what the device's current stream was asked to do so far."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._stream.wait_stream(torch.cuda.current_stream(device))
        # Waiting by spinning would cost decoding a core.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def run(self, work: Callable[[], None]) -> None:
        with torch.cuda.stream(self._stream):
            work()

    def wait(self) -> None:
        self._done.record(self._stream)
        self._done.synchronize()


def new_stream(device: torch.device) -> Stream:
    """A stream of its own on a device."""
    return CudaStream(device) if device.type == "cuda" else HostStream()


class _Lane:
    """The buffers of one batch on its way through the device: `rows` images in, as many vectors out."""

    def __init__(self, stream: Stream, rows: int, shape: tuple[int, ...], dim: int, *, pinned: bool) -> None:
        self.stream = stream
        self.pixels = torch.empty((rows, *shape), dtype=torch.uint8, pin_memory=pinned)
        self.vectors = torch.empty((rows, dim), dtype=torch.float32, pin_memory=pinned)

    def embed(self, pixels: np.ndarray, encode: Callable[[torch.Tensor], torch.Tensor], *, padded: bool) -> np.ndarray:
        """uint8 (n <= rows, S, S, 3) -> float32 (n, dim). `padded`: `encode` always gets all rows of the buffer."""
        n = len(pixels)
        self.pixels.numpy()[:n] = pixels

        def work() -> None:
            self.vectors[:n].copy_(encode(self.pixels if padded else self.pixels[:n])[:n], non_blocking=True)

        self.stream.run(work)
        self.stream.wait()
        return self.vectors[:n].numpy().copy()


class TorchRuntime:
    """A checkpoint's network on one device. Every method is thread-safe.

    Images are run `batch_size` at a time at most. With `compile`, by torch.compile and always exactly that many, the
    last ones padded: one compilation, at the first call, which takes up to minutes. Raises ConfigError where there
    is no compiler for that.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        batch_size: int = 32,
        compile: bool = False,
        new_stream: Callable[[torch.device], Stream] = new_stream,
    ) -> None:
        self.device = torch.device(device)
        if compile and (missing := missing_compiler(self.device)):
            raise ConfigError(
                f"compile is true, but torch.compile finds no {missing}; install it or set compile to false"
            )
        self._cuda = self.device.type == "cuda"
        model = checkpoint.model
        self._model = model if self.device.type == "cpu" else copy.deepcopy(model).to(self.device)
        if self._cuda:
            self._model = self._model.to(memory_format=torch.channels_last)
        self._shape = (batch_size, checkpoint.preprocessing.shape, int(model.dim))
        self._compiled = compile
        self._encode: Any = self._model.encode_image
        if compile:
            self._encode = torch.compile(self._encode, dynamic=False)
        self._new_stream = new_stream
        # One thread's work at a time is queued, because autocast's cache of weights in bfloat16 belongs to the process:
        # a second stream would read from it what the first has not written yet.
        self._lock = threading.Lock()
        # Made when they are first needed; the last one put back is taken first.
        self._lanes: queue.LifoQueue[_Lane | None] = queue.LifoQueue()
        for _ in range(_IN_FLIGHT):
            self._lanes.put(None)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, S, S, 3) -> float32 (n, dim), unit rows."""
        step, _, dim = self._shape
        vectors = np.empty((len(pixels), dim), dtype=np.float32)
        for start in range(0, len(pixels), step):
            with self._take_lane() as lane:
                part = pixels[start : start + step]
                vectors[start : start + step] = lane.embed(part, self._encode_image, padded=self._compiled)
        return vectors

    def embed_tokens(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """int64 ids and mask (n, length) -> float32 (n, dim), unit rows."""
        inputs = (torch.from_numpy(ids), torch.from_numpy(mask))
        with self._hold_model():
            rows = self._model.encode_text(*(tensor.to(self.device, non_blocking=self._cuda) for tensor in inputs))
            return np.asarray(_to_unit(rows).cpu().numpy(), dtype=np.float32)

    def _encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        with self._hold_model():
            return _to_unit(self._encode(pixels.to(self.device, non_blocking=self._cuda)))

    @contextlib.contextmanager
    def _hold_model(self) -> Iterator[None]:
        with self._lock, torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self._cuda):
            yield

    @contextlib.contextmanager
    def _take_lane(self) -> Iterator[_Lane]:
        lane = self._lanes.get()
        try:
            if lane is None:
                lane = _Lane(self._new_stream(self.device), *self._shape, pinned=self._cuda)
            yield lane
        finally:
            self._lanes.put(lane)


def missing_compiler(device: torch.device) -> str:
    """What torch.compile would look for in vain on this machine: a compiler or Python's headers. "" if all is there."""
    if device.type == "cuda":  # triton compiles what starts its kernels
        language, variable, usual = "C", "CC", ["gcc", "clang"]
    elif device.type == "cpu":
        language, variable, usual = "C++", "CXX", [{"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")]
    else:
        return ""
    names = [os.environ[variable]] if os.environ.get(variable) else usual
    if not any(map(shutil.which, names)):
        return f"{language} compiler: {' and '.join(names)} cannot be run (the variable {variable} names another one)"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return "" if header.is_file() else f"headers of Python: {header} is missing (Debian and Ubuntu: python3-dev)"


def _to_unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows in float32 and of norm 1, which bfloat16 misses by up to 1e-2."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)
