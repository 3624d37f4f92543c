"""Decoded training images, kept in memory or in one file: an epoch after the first decodes nothing again.

with PixelCache(load, len(pairs), size=256, limit_bytes=4 << 30, folder=Path("/scratch")) as images:
    rgb = images[7]
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from PIL import Image

from clip_qdrant.errors import ConfigError, TrainingError

__all__ = ["PixelCache"]


class PixelCache:
    """Images 0 to count - 1 as RGB, reduced so that their short side is at most `size`; `load` decodes one anew.

    The first images asked for are kept, up to `limit_bytes` of pixels; others are decoded each time. Nothing is
    evicted: every epoch asks for every image once, in another order, and under such a pattern a cache that replaces
    its contents has no more hits than one that keeps them, and decodes and writes for nothing.

    With `folder` the pixels are in one file there, which has no name on Linux, so it goes with its process even if
    that is killed. Each process has its own, and `limit_bytes` counts for each. Threads may share a cache, and decode
    at the same time. `bytes`, `hits` and `misses` say what it holds and what it was good for.

    Raises ConfigError for a size or a limit that cannot be, TrainingError for a folder that cannot be written.
    """

    def __init__(
        self,
        load: Callable[[int], Image.Image],
        count: int,
        *,
        size: int,
        limit_bytes: int,
        folder: Path | None = None,
    ) -> None:
        if size < 1:
            raise ConfigError(f"size is {size}: images are kept with a short side of at least 1 pixel")
        if limit_bytes < 0:
            raise ConfigError(f"limit_bytes is {limit_bytes}: give the bytes of pixels to keep, or 0 to keep none")
        self.bytes = self.hits = self.misses = 0
        self._load, self._count, self._size, self._limit = load, count, size, limit_bytes
        self._lock = threading.Lock()  # held for bookkeeping only, never while an image is decoded, read or written
        self._claimed: set[int] = set()
        self._kept: dict[int, tuple[tuple[int, int], bytes | int]] = {}  # size, and the pixels or where they are
        self._file = None if folder is None else _PixelFile(folder)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Image.Image:
        if not 0 <= number < self._count:
            raise IndexError(f"there is no image {number}: they count from 0 to {self._count - 1}")
        with self._lock:
            kept = self._kept.get(number)
            self.hits += kept is not None
            self.misses += kept is None
        if kept is None:
            rgb = _reduce(self._load(number), self._size)
            self._keep(number, rgb)
            return rgb
        (width, height), pixels = kept
        if isinstance(pixels, int):
            assert self._file is not None, "an offset is into a file"
            pixels = self._file.read(pixels, 3 * width * height)
        return Image.frombytes("RGB", (width, height), pixels)

    def close(self) -> None:
        """Forgets the pixels and removes the file. Nothing may be asked of the cache any more."""
        with self._lock:
            self._kept.clear()
            self._claimed.update(range(self._count))  # a thread that still decodes keeps nothing
            self.bytes = 0
        if self._file:
            self._file.close()

    def __enter__(self) -> PixelCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, number: int, rgb: Image.Image) -> None:
        length = 3 * rgb.width * rgb.height
        with self._lock:
            if number in self._claimed or self.bytes + length > self._limit:
                return
            self._claimed.add(number)  # two threads may decode the same image; the first one keeps it
            self.bytes += length
        pixels = rgb.tobytes()
        place = self._file.append(pixels) if self._file else pixels
        with self._lock:
            self._kept[number] = (rgb.size, place)


class _PixelFile:
    """A temporary file that bytes are appended to and read back from. Reads and writes take turns.

    That is no bottleneck: 224 x 224 pixels come from the page cache in 0.08 ms, and a view of them takes 1 ms.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._end = folder, 0
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a full disk is told by the write that does not fit, not by a later one.
            self._file = tempfile.TemporaryFile(dir=folder, prefix="clip-qdrant-pixels-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise TrainingError(
                f"cannot keep decoded images in {folder}: {error.strerror or error}; give a folder that can be written"
            ) from error

    def append(self, data: bytes) -> int:
        """Where the data is. Raises TrainingError where the disk is full."""
        with self._lock:
            start, rest = self._end, memoryview(data)
            try:
                self._file.seek(start)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                raise TrainingError(
                    f"cannot keep decoded images in {self._folder}: {error.strerror or error}, after "
                    f"{start / 1e6:.0f} MB; give a folder on a disk with more room, or a smaller limit"
                ) from error
            self._end += len(data)
            return start

    def read(self, start: int, length: int) -> bytes:
        """The data appended there."""
        data = bytearray(length)
        with self._lock:
            try:
                self._file.seek(start)
                rest = memoryview(data)
                while rest and (count := self._file.readinto(rest)):
                    rest = rest[count:]
            except OSError as error:
                raise TrainingError(
                    f"cannot read decoded images in {self._folder}: {error.strerror or error}"
                ) from error
        if rest:
            raise TrainingError(f"the file of decoded images in {self._folder} was cut short; start the training again")
        return bytes(data)

    def close(self) -> None:
        with self._lock:
            self._file.close()


def _reduce(image: Image.Image, size: int) -> Image.Image:
    """An image as RGB with its short side at most `size`; the same for a kept image and for one that is not."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    short = min(rgb.size)
    if short <= size:
        return rgb
    width, height = (round(side * size / short) for side in rgb.size)
    return rgb.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
