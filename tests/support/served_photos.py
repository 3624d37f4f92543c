"""The photos that the tests of the service search: nine of plain colours, with captions, albums, years and dates."""

from __future__ import annotations

import io

from fakes import COLOURS, solid_image

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.store.connect import QdrantBase

NAME = "photos"
ALBUMS = ("pets", "sea", "pets", "hills")


def uri_of(name: str) -> str:
    return f"https://photos.example.org/{name}.png"


def png(colour: str | tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    solid_image(colour, size).save(file, "PNG")
    return file.getvalue()


def add_photos(client: QdrantBase, embedder: Embedder, name: str = NAME) -> ImageCollection:
    """The collection with one photo for each colour, and a copy of the red one."""
    images = ImageCollection(name, embedder, client)
    named = [*COLOURS, "copy"]
    metadata = [
        {
            "album": ALBUMS[index % 4],
            "year": 2020 + index % 5,
            "stars": index / 2,
            "good": index % 2 == 0,
            "taken_at": f"2024-0{1 + index % 6}-10T12:00:00",
        }
        for index in range(len(named))
    ]
    images.add(
        [png("red" if each == "copy" else each) for each in named],
        uris=[uri_of(each) for each in named],
        captions=[f"a {each} boat" for each in named],
        metadata=metadata,
    )
    return images
