"""Stand-ins: an embedder of a few lines that knows colours, small image files, a client that keeps a record.

The first three numbers of a vector are the mean red, green and blue, so the text "red" lies next to a red image;
words that are no colour go, hashed, to dimensions no image reaches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_qdrant.images import ImageInput

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


class FakeEmbedder:
    """An Embedder without a model. `image_calls` and `text_calls` hold the sizes of the batches it was given."""

    def __init__(self, dim: int = 16, *, name: str = "fake", image_size: int = 16) -> None:
        if dim < 8:
            raise ValueError(f"dim must be at least 8, not {dim}")
        self.dim = dim
        self.image_size = image_size
        self.fingerprint = hashlib.sha256(f"{name} {dim}".encode()).hexdigest()
        self.image_calls: list[int] = []
        self.text_calls: list[int] = []

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        return np.asarray(rgb.resize((self.image_size, self.image_size)), dtype=np.uint8)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (self.image_size, self.image_size, 3)
        self.image_calls.append(len(pixels))
        values = pixels.reshape(len(pixels), -1, 3).astype(np.float32) / 255
        vectors = np.zeros((len(pixels), self.dim), np.float32)
        vectors[:, :3] = values.mean(axis=1)
        vectors[:, 3] = 0.1  # so that black is not the zero vector
        vectors[:, 4:7] = values.std(axis=1)  # so that a pattern differs from a plain image of its mean colour
        return _unit(vectors)

    def embed_images(self, images: Iterable[ImageInput]) -> np.ndarray:
        from clip_qdrant.images import load_image

        rows = [self.preprocess(load_image(image, target=self.image_size).rgb) for image in images]
        return self.embed_pixels(np.stack(rows)) if rows else np.zeros((0, self.dim), np.float32)

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        texts = list(texts)
        self.text_calls.append(len(texts))
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[3] = 0.1
            for word in text.lower().split():
                if word in COLOURS:
                    row[:3] += np.asarray(COLOURS[word], np.float32) / 255
                else:
                    row[7 + hashlib.sha256(word.encode()).digest()[0] % (self.dim - 7)] += 0.5
        return _unit(vectors)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def solid_image(colour: str | tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> Image.Image:
    """A plain RGB image of a colour: a name from COLOURS, or 0-255 red, green, blue."""
    return Image.new("RGB", size, COLOURS[colour] if isinstance(colour, str) else colour)


def write_image(path: Path, colour: str | tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> Path:
    """Writes a plain image in the format that the suffix of `path` names; gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    solid_image(colour, size).save(path)
    return path


class RecordingClient:
    """Passes every call on to a real client and keeps the names of the methods called.

    `before[name]` runs ahead of each call of that method: to let another writer in, or to raise.
    """

    def __init__(self, client: Any) -> None:
        self._wrapped = client
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._wrapped, name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                self.before[name]()
            return attribute(*args, **kwargs)

        return recorded
