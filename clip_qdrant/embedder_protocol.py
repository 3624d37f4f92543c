"""What others rely on in an embedder: images and texts to unit vectors of one space. `ClipEmbedder` is ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clip_qdrant.images.load import ImageInput

__all__ = ["Embedder"]


class Embedder(Protocol):
    """What a collection and the ingestion pipeline need of an embedder. Every method is thread-safe."""

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
