"""BatchingEmbedder: an embedder for a service, which makes one batch of what many requests want embedded at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from clip_qdrant.embedder_protocol import Embedder, check_texts, find_needed_side
from clip_qdrant.errors import DeadlineExceeded
from clip_qdrant.images.load import ImageInput, Limits, is_one_image
from clip_qdrant.model_inputs.prompts import Prompts, read_prompts
from clip_qdrant.service.batching.batcher import Batcher
from clip_qdrant.service.batching.decoding import DecodedImage, ImageDecoder
from clip_qdrant.service.batching.lengths import group_by_length
from clip_qdrant.service.batching.options import BatchingOptions
from clip_qdrant.service.batching.vector_cache import VectorCache
from clip_qdrant.service.http.lifetime import current_lifetime

if TYPE_CHECKING:
    from PIL import Image

    from clip_qdrant.calibration.curves import Calibration

__all__ = ["BatchingEmbedder", "BatchingFigures"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class BatchingFigures:
    """What a BatchingEmbedder has done since it was made, and what waits now."""

    text_batches: int
    texts: int
    texts_waiting: int
    image_batches: int
    images: int
    images_waiting: int
    cache_hits: int
    cache_misses: int


class BatchingEmbedder:
    """An `Embedder` over another, for many threads and coroutines at once; close it when it is done with.

    Threads use it as any embedder; each call waits for the batch that its texts or images are in. Coroutines have calls
    of their own (`aembed_texts` and the like), which leave the queue when they are cancelled. All raise Overloaded if
    too much waits, and DeadlineExceeded if the lifetime of the request ends before it is its turn.
    """

    def __init__(
        self, embedder: Embedder, options: BatchingOptions | None = None, *, limits: Limits | None = None
    ) -> None:
        options = options or BatchingOptions()
        self.options = options
        self.embedder = embedder
        self.limits: Limits = limits or getattr(embedder, "limits", None) or Limits()
        self._cache = VectorCache(options.cached_texts)
        self._texts = Batcher(
            self._run_texts,
            what="texts",
            dim=embedder.dim,
            batch_size=options.texts_in_batch,
            most_waiting=options.most_texts,
            gathering=options.gathering,
            group=group_by_length,
        )
        self._images: Batcher[np.ndarray] = Batcher(
            lambda images: embedder.embed_pixels(np.stack(images)),
            what="images",
            dim=embedder.dim,
            batch_size=options.images_in_batch,
            most_waiting=options.most_images,
            gathering=options.gathering,
        )
        self._decoder = ImageDecoder(
            embedder,
            limits=self.limits,
            threads=options.decoders,
            most_waiting=options.most_images,
        )

    @property
    def dim(self) -> int:
        return self.embedder.dim

    @property
    def fingerprint(self) -> str:
        return self.embedder.fingerprint

    @property
    def image_size(self) -> int:
        return self.embedder.image_size

    @property
    def name(self) -> str | None:
        return getattr(self.embedder, "name", None)

    @property
    def needed_side(self) -> int | None:
        return find_needed_side(self.embedder)

    @property
    def prompts(self) -> Prompts | None:
        return read_prompts(self.embedder)

    @property
    def calibration(self) -> Calibration | None:
        made: Calibration | None = getattr(self.embedder, "calibration", None)
        return made

    @property
    def figures(self) -> BatchingFigures:
        return BatchingFigures(
            text_batches=self._texts.batches,
            texts=self._texts.items,
            texts_waiting=self._texts.waiting,
            image_batches=self._images.batches,
            images=self._images.items,
            images_waiting=self._images.waiting,
            cache_hits=self._cache.hits,
            cache_misses=self._cache.misses,
        )

    def __repr__(self) -> str:
        return f"BatchingEmbedder({self.embedder!r})"

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        return self.embedder.preprocess(rgb)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return _wait(self._images.submit(list(pixels))) if len(pixels) else self._no_rows()

    def embed_images(self, images: Iterable[ImageInput]) -> np.ndarray:
        numbered = enumerate([cast("ImageInput", images)] if is_one_image(images) else images)
        parts = [self._no_rows()]
        while batch := list(itertools.islice(numbered, self.options.images_in_batch)):
            waiting: list[Future[DecodedImage]] = []
            try:
                for number, image in batch:
                    waiting.append(self._decoder.submit(image, name=_name(image, number)))
                parts.append(self.embed_pixels(np.stack([_wait(one).pixels for one in waiting])))
            finally:
                for one in waiting:
                    one.cancel()
        return np.concatenate(parts)

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        wanted = check_texts(texts)
        known, missing = self._find(wanted)
        if missing:
            rows: np.ndarray = _wait(self._texts.submit(missing))
            known.update(zip(missing, rows, strict=True))
        return np.stack([known[text] for text in wanted]) if wanted else self._no_rows()

    async def aembed_texts(self, texts: Iterable[str]) -> np.ndarray:
        """n texts -> float32 (n, dim), unit rows, as `embed_texts`."""
        wanted = check_texts(texts)
        known, missing = self._find(wanted)
        if missing:
            rows: np.ndarray = await asyncio.wrap_future(self._texts.submit(missing))
            known.update(zip(missing, rows, strict=True))
        return np.stack([known[text] for text in wanted]) if wanted else self._no_rows()

    async def adecode(self, image: ImageInput, *, name: str | None = None) -> DecodedImage:
        """The pixels of one image, which messages call `name`. Raises ImageError, SourceError."""
        return await asyncio.wrap_future(self._decoder.submit(image, name=name))

    async def aembed_pixels(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """n times uint8 as `preprocess` gives it -> float32 (n, dim), unit rows."""
        if not pixels:
            return self._no_rows()
        return await asyncio.wrap_future(self._images.submit(pixels))

    def count_tokens(self, texts: Iterable[str]) -> list[int] | None:
        """How many tokens the text encoder reads of each; None where the embedder below does not tell."""
        count: Callable[[Iterable[str]], list[int]] | None = getattr(self.embedder, "count_tokens", None)
        return None if count is None else count(texts)

    def warm_up(self) -> None:
        """Runs both encoders once, which opens them: the first request need not wait for that."""
        self.embedder.embed_texts(["a photo of a dog"])
        # as many as make the encoders start the threads that share a batch
        self.embedder.embed_texts([f"a photo of {number} dogs" for number in range(32)])
        blank = self.embedder.preprocess(_blank_image(self.image_size))
        self.embedder.embed_pixels(np.stack([blank] * min(8, self.options.images_in_batch)))

    def close(self) -> None:
        """Takes no more, and returns when all that waits is done."""
        self._decoder.close()
        self._images.close()
        self._texts.close()

    def _find(self, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
        """The vectors that are known, by text, and the texts that are to be embedded, each once."""
        different = dict.fromkeys(texts)
        known = self._cache.find(different)
        return known, [text for text in different if text not in known]

    def _run_texts(self, texts: Sequence[str]) -> np.ndarray:
        different = list(dict.fromkeys(texts))  # several requests may have the same
        rows = self.embedder.embed_texts(different)
        self._cache.keep(different, rows)
        if len(different) == len(texts):
            return rows
        places = {text: place for place, text in enumerate(different)}
        return rows[[places[text] for text in texts]]

    def _no_rows(self) -> np.ndarray:
        return np.empty((0, self.dim), np.float32)


def _name(image: ImageInput, number: int) -> str | None:
    """What messages call an image that has no name of its own."""
    return None if hasattr(image, "__fspath__") or isinstance(image, str) else f"image {number}"


def _blank_image(side: int) -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (side, side), (128, 128, 128))


def _wait(future: Future[_Result]) -> _Result:
    """The result, for a thread. Whatever ends the wait takes the job out of the queue."""
    lifetime = current_lifetime()
    try:
        return future.result(None if lifetime is None else lifetime.time_left())
    except FutureTimeout as error:
        if future.done():  # it is the job's own error
            raise
        raise DeadlineExceeded("the time of the request ran out while it was embedded") from error
    finally:
        future.cancel()
