"""Stand-ins: an embedder of a few lines that knows colours, small image files, a source, a client that keeps a record.

The first three numbers of a vector are the mean red, green and blue, so the text "red" lies next to a red image;
words that are no colour go, hashed, to dimensions no image reaches.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_qdrant.images.load import ImageInput, Limits
from clip_qdrant_ingestion.sources.protocol import Page, SourceObject

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
        from clip_qdrant.images.load import load_image

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


class MadeSource:
    """A source of small images made in memory, "000.png" on, each of a colour of its own.

    `size` is what the listing says of each, its real one by default. `before_read` is called ahead of each read with
    the object and the number of times it was asked for before, to wait or to raise. `reads` counts them by name.
    """

    def __init__(
        self,
        number: int,
        *,
        size: int | None = None,
        readers: int = 8,
        before_read: Callable[[SourceObject, int], None] = lambda item, attempt: None,
    ) -> None:
        self.name = "made"
        self.reads_at_once = readers
        self.reads: Counter[str] = Counter()
        self._before_read = before_read
        self._lock = threading.Lock()
        self._content = {f"{index:03}.png": _png((index % 256, index // 256, 90)) for index in range(number)}
        self._objects = [
            SourceObject(self.uri(name), name, size=len(content) if size is None else size, mtime=1.0)
            for name, content in self._content.items()
        ]

    @staticmethod
    def uri(name: str) -> str:
        return f"made://images/{name}"

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        for start in range(0, len(self._objects), 50):
            yield Page(self._objects[start : start + 50])

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        with self._lock:
            attempt = self.reads[item.name]
            self.reads[item.name] += 1
        self._before_read(item, attempt)
        return self._content[item.name]


def _png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    solid_image(colour, (8, 8)).save(file, "PNG")
    return file.getvalue()


def picture(seed: int) -> Image.Image:
    """An RGB picture of 256 x 256 pixels with structure; those of two seeds are not near-duplicates."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)


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
