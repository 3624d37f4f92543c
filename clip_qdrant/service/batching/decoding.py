"""ImageDecoder: images to the pixels that an encoder takes, several at once, beside the encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_qdrant.embedder_protocol import Embedder, find_needed_side
from clip_qdrant.errors import Overloaded
from clip_qdrant.images.load import ImageInput, Limits, load_image
from clip_qdrant.runtime import cpu_count

__all__ = ["DecodedImage", "ImageDecoder"]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """`pixels` are uint8 as `Embedder.preprocess` gives them; `width` and `height` are those of the upright image."""

    pixels: np.ndarray
    width: int
    height: int


class ImageDecoder:
    """Decodes images within `limits` for an embedder, as many at once as there are `threads`; `most_waiting` may wait.

    Close it when it is done with.
    """

    def __init__(self, embedder: Embedder, *, limits: Limits, threads: int | None, most_waiting: int) -> None:
        self._preprocess: Callable[[Any], np.ndarray] = embedder.preprocess
        self._target = find_needed_side(embedder)
        self._limits = limits
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads or cpu_count(), thread_name_prefix="decode")

    def submit(self, image: ImageInput, *, name: str | None = None) -> Future[DecodedImage]:
        """An image, which messages call `name`. The future raises ImageError and SourceError; this one Overloaded."""
        with self._lock:
            if self._waiting >= self._most_waiting:
                raise Overloaded(
                    f"{self._waiting} images wait to be decoded, and no more may: try again in a second, or with fewer "
                    "at once",
                    retry_after=1,
                )
            self._waiting += 1
        try:
            future = self._pool.submit(self._decode, image, name)
        except RuntimeError as error:  # it is closed
            self._count_out()
            raise Overloaded("the service is ending: try again when it runs", retry_after=5) from error
        future.add_done_callback(lambda _future: self._count_out())
        return future

    def close(self) -> None:
        """Takes no more, and returns when all that waits is done."""
        self._pool.shutdown()

    def _decode(self, image: ImageInput, name: str | None) -> DecodedImage:
        loaded = load_image(image, target=self._target, limits=self._limits, name=name)
        return DecodedImage(self._preprocess(loaded.rgb), loaded.info.width, loaded.info.height)

    def _count_out(self) -> None:
        with self._lock:
            self._waiting -= 1
