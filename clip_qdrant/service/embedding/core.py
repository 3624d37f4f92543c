"""embed_inputs: the one way from the inputs of a request to vectors, whatever the protocol.

Texts are embedded as those of `ImageCollection.search`, so that they are near to the images that it finds. Images are
fetched, decoded and embedded while others of the same request still wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.collection.query import merge_prompted, to_unit, write_prompts
from clip_qdrant.errors import ClipQdrantError, QueryError, RequestTooLarge
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.service.embedding.parts import ImagePart, InputParts, TextPart
from clip_qdrant.service.threads import run_blocking

if TYPE_CHECKING:
    from clip_qdrant.service.state import Service

__all__ = ["EmbeddedInputs", "embed_inputs"]

_LONGEST_TEXT = 32_768  # characters; text encoders read far less, and what is beyond costs time alone
_CANCELLED = 1e-5  # what is shorter is the rounding noise of parts that cancel
_AT_ONCE = 16  # images of one request that are under way
_QUICK = 10_000  # characters that are looked at in less than a few ms, for which a thread does not pay


@dataclass(frozen=True, slots=True)
class EmbeddedInputs:
    """`rows` are float32 (n, dim), unit rows, one for each input; `sizes` are width and height of the images, in order.

    `tokens` is how many the text encoder read, None where the embedder does not tell.
    """

    rows: np.ndarray
    tokens: int | None
    sizes: Sequence[tuple[int, int]]

    @property
    def pixels(self) -> int:
        return sum(width * height for width, height in self.sizes)


async def embed_inputs(inputs: Sequence[InputParts], service: Service) -> EmbeddedInputs:
    """A vector for each input. One of several parts becomes their sum, brought to length 1, as `Query` adds them.

    Raises RequestTooLarge, QueryError for an empty text, ImageError, SourceError, Overloaded; the message says which
    input is at fault.
    """
    numbered = [(number, part) for number, parts in enumerate(inputs) for part in parts]
    if len(numbered) > service.options.max_batch:
        raise RequestTooLarge(
            f"the request has {len(numbered)} texts and images; {service.options.max_batch} are possible at once"
        )
    texts = [(number, part.text) for number, part in numbered if isinstance(part, TextPart)]
    images = [(number, part) for number, part in numbered if isinstance(part, ImagePart)]
    turn = asyncio.Semaphore(_AT_ONCE)
    (text_rows, tokens), *embedded = await _finish_all(
        _embed_texts(texts, service), *(_embed_image(number, part, turn, service) for number, part in images)
    )
    by_text = iter(text_rows)
    by_image = iter([row for row, _ in embedded])
    sums = np.zeros((len(inputs), service.embedder.dim), np.float64)
    for number, part in numbered:
        sums[number] += next(by_text if isinstance(part, TextPart) else by_image)
    for number, total in enumerate(sums):
        if np.linalg.norm(total) < _CANCELLED:
            raise QueryError(f"input {number} is empty, or its parts cancel each other: there is nothing to embed")
    rows = np.stack([to_unit(total) for total in sums]).astype(np.float32) if inputs else sums.astype(np.float32)
    return EmbeddedInputs(rows, tokens, [size for _, size in embedded])


async def _embed_texts(numbered: Sequence[tuple[int, str]], service: Service) -> tuple[np.ndarray, int | None]:
    """float32 (n, dim) and the number of tokens."""
    if not numbered:
        return np.empty((0, service.embedder.dim), np.float32), 0
    written = []
    for number, text in numbered:
        if len(text) > _LONGEST_TEXT:
            raise RequestTooLarge(f"input {number} has {len(text)} characters; {_LONGEST_TEXT} are possible")
        with _name_input(number):
            written += write_prompts([text], service.embedder)
    texts = [text for _, text in numbered]
    rows = await service.embedder.aembed_texts([text for prompted in written for text in prompted])
    count = service.embedder.count_tokens
    counts = await run_blocking(count, texts) if sum(map(len, texts)) > _QUICK else count(texts)
    return merge_prompted(rows, written, service.embedder), None if counts is None else sum(counts)


async def _embed_image(
    number: int, part: ImagePart, turn: asyncio.Semaphore, service: Service
) -> tuple[np.ndarray, tuple[int, int]]:
    """float32 (dim,), width and height."""
    async with turn:
        with _name_input(number):
            content = await _read_image(part.image, service)
            decoded = await service.embedder.adecode(content, name="the image")
        rows = await service.embedder.aembed_pixels([decoded.pixels])
    return rows[0], (decoded.width, decoded.height)


async def _read_image(image: bytes | str, service: Service) -> bytes:
    if isinstance(image, bytes):
        return image
    limits = service.options.limits
    if image[:8].lower().startswith(("http://", "https://")):
        return await run_blocking(service.fetcher.fetch, image, limits=limits)
    if len(image) > _QUICK * 10:
        return await run_blocking(decode_inline_image, image, limits=limits)
    return decode_inline_image(image, limits=limits)


@contextlib.contextmanager
def _name_input(number: int) -> Iterator[None]:
    """Errors say which input they are about."""
    try:
        yield
    except ClipQdrantError as error:
        error.args = (f"input {number}: {error}", *error.args[1:])
        raise


async def _finish_all(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results, in order. If one fails the others are cancelled, so that nothing of a request outlives it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
