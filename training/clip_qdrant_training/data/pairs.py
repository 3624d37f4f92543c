"""What one pair is: an image with its captions, how its image is read, and which pairs are the same."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image

from clip_qdrant.errors import TrainingError
from clip_qdrant.images.load import ImageInput
from clip_qdrant.uris import path_of

__all__ = ["LazyImage", "Pair", "caption_key", "clean_captions", "image_input", "image_name", "pair_keys"]


@runtime_checkable
class LazyImage(Protocol):
    """An image inside a bigger file, read when it is needed. Hashable, picklable; `str` names it in messages."""

    def read(self) -> bytes:
        """The bytes of the image file. Raises SourceError."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image with the captions that describe it. At least one caption."""

    image: Any  # a LazyImage, or anything clip_qdrant.images.load.load_image takes
    captions: tuple[str, ...]


def clean_captions(value: Any, where: str) -> tuple[str, ...]:
    """One text or a list of texts, stripped and without the empty ones. Raises TrainingError if none is left."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    captions = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
    if not captions or not all(isinstance(text, str) for text in texts):
        raise TrainingError(f"{where} needs captions, one text or a list of texts, not {value!r:.80}")
    return captions


def image_input(image: Any) -> ImageInput:
    """What `load_image` takes: the bytes of a lazy image, anything else as it is."""
    if isinstance(image, LazyImage) and not isinstance(image, io.IOBase):  # an open file can be read only once
        return image.read()
    return cast(ImageInput, image)


def image_name(image: Any, number: int) -> str:
    """How messages call the image of the pair with this number."""
    if isinstance(image, (str, os.PathLike)):
        return str(image)
    return str(image) if isinstance(image, LazyImage) else f"the image of pair {number}"


def caption_key(text: str) -> str:
    """A caption without what does not change its meaning: case, white space, punctuation, Unicode's ways to write it.

    A text that is all punctuation is kept, so that such texts do not all become one.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(plain.translate(_punctuation()).split()) or " ".join(plain.split())


def pair_keys(pairs: Sequence[Pair], *, hashes: Mapping[int, str] | None = None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 (pairs,): equal numbers for pairs of the same image, counted from 0 in the order of the pairs.

    The same is: one file, whatever the spelling of its path; one place in a bigger file; equal bytes or pixels.
    `hashes` (of the contents, by the number of the pair) finds the copies under other names too.
    """
    places = [_place(pair.image) for pair in pairs]
    contents = {places[number]: content for number, content in (hashes or {}).items()}
    numbers: dict[Hashable, int] = {}
    keys = (("content", contents[place]) if place in contents else place for place in places)
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=len(places))


def _place(image: Any) -> Hashable:
    if isinstance(image, (str, os.PathLike)):
        local = path_of(image) if isinstance(image, str) and re.match("file:", image) else None
        return "path", os.path.realpath(local or image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "bytes", hashlib.sha256(image).digest()
    if isinstance(image, Image.Image):
        return "pixels", image.mode, image.size, hashlib.sha256(image.tobytes()).digest()
    if isinstance(image, np.ndarray):
        return "array", image.dtype.str, image.shape, hashlib.sha256(np.ascontiguousarray(image).data).digest()
    return "object", image if isinstance(image, Hashable) else id(image)


@functools.lru_cache(maxsize=1)
def _punctuation() -> dict[int, str]:
    """For str.translate: a space for everything that Unicode counts as punctuation; + and $ are symbols and stay."""
    return {code: " " for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("P")}
