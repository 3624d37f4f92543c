"""What others rely on in an embedder: images and texts to unit vectors of one space. `ClipEmbedder` is ours."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from clip_qdrant.errors import ConfigError, shorten

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clip_qdrant.images.load import ImageInput

__all__ = ["Embedder", "check_embedder", "check_texts", "describe_embedder", "find_needed_side"]

_VALUES: Mapping[str, type] = {"dim": int, "fingerprint": str, "image_size": int}
_LONGEST = 200  # characters of a name in a message
_METHODS = ("preprocess", "embed_pixels", "embed_images", "embed_texts")


class Embedder(Protocol):
    """What a collection and the ingestion pipeline need of an embedder. Every method is thread-safe.

    It may have a property `needed_side` too: the short side in pixels that images keep at least when they are reduced
    in decoding, None for images that must not be reduced. Without it that is `image_size`. `limits`, if it has
    them, are those of the images that it takes; the usual ones hold without. `name`, if it has one, is what a user
    gives to load it again: collections keep it for messages.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def fingerprint(self) -> str:
        """sha256 that says which embedder made a vector."""

    @property
    def image_size(self) -> int:
        """Side in pixels of what `preprocess` returns."""

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        """An upright RGB image -> uint8 (image_size, image_size, 3)."""

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, image_size, image_size, 3) -> float32 (n, dim), unit rows."""

    def embed_images(self, images: Iterable[ImageInput]) -> np.ndarray:
        """n images -> float32 (n, dim), unit rows."""

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        """n texts -> float32 (n, dim), unit rows."""


def describe_embedder(fingerprint: object, name: object, dim: object) -> str:
    """An embedder in a message, by what it or a collection says of it. `name` is None where it has none."""
    named = f"{shorten(name, _LONGEST)}, " if isinstance(name, str) else ""
    return f"{str(fingerprint)[:12]} ({named}{dim} dimensions)"


def find_needed_side(embedder: Embedder) -> int | None:
    """The `target` of `load_image` for an embedder."""
    side: int | None = getattr(embedder, "needed_side", embedder.image_size)
    return side


def check_texts(texts: Iterable[str]) -> list[str]:
    """The texts, or the one text, that an embedder is given, as a list. Raises ConfigError for what is no text."""
    checked = [texts] if isinstance(texts, str) else list(texts)
    for text in checked:
        if not isinstance(text, str):
            raise ConfigError(f"a text must be a str, not {type(text).__name__}: {text!r:.80}")
    return checked


def check_embedder(embedder: object) -> None:
    """Raises ConfigError unless it has all members of `Embedder`, naming those that it lacks or has of another kind."""
    kind = type(embedder).__name__
    if isinstance(embedder, type):
        raise ConfigError(f"the embedder is the class {embedder.__name__}: give an object of it")
    missing = [name for name in (*_VALUES, *_METHODS) if not hasattr(embedder, name)]
    if missing:
        raise ConfigError(
            f"the embedder, a {kind}, lacks {', '.join(missing)}: clip_qdrant.Embedder says what an embedder needs, "
            "and ClipEmbedder.load() gives one"
        )
    for name in _METHODS:
        if not callable(getattr(embedder, name)):
            raise ConfigError(f"{name} of the embedder, a {kind}, must be a method")
    for name, wanted in _VALUES.items():
        value = getattr(embedder, name)
        if callable(value):
            raise ConfigError(f"{name} of the embedder, a {kind}, is a method: make it a property")
        fits = isinstance(value, numbers.Integral) and int(value) > 0 if wanted is int else isinstance(value, str)
        if not fits or not value:
            what = "a whole number of at least 1" if wanted is int else "a text that is not empty"
            raise ConfigError(f"{name} of the embedder, a {kind}, is {value!r}: it must be {what}")
