"""A store with collections of this package and of other programs, and an MCP server over it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes import FakeEmbedder, write_image
from qdrant_client import models

from clip_qdrant import EdgeClient, ImageCollection
from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
from clip_qdrant.integrations.mcp.server import create_server

COLOURS = ("red", "green", "blue", "yellow")


@dataclass(frozen=True)
class Shelf:
    """A store, the folder of its images, and a server that reads it."""

    client: EdgeClient
    embedder: FakeEmbedder
    folder: Path
    server: Any


@contextlib.contextmanager
def open_shelf(folder: Path) -> Iterator[Shelf]:
    """`photos` and `other`, which another model made, of this package; `shoes` and `texts` of other programs."""
    embedder = FakeEmbedder()
    with EdgeClient(folder / "store") as client:
        add_photos(client, embedder, folder)
        add_shoes(client, embedder, folder)
        other = ImageCollection("other", FakeEmbedder(name="another model"), client)
        other.add([folder / "red.png"])
        client.create_collection("texts", models.VectorParams(size=768, distance=models.Distance.COSINE))
        catalog = CollectionCatalog(client, embedder, default="photos")
        yield Shelf(client, embedder, folder, create_server(catalog))


def add_photos(client: EdgeClient, embedder: FakeEmbedder, folder: Path) -> None:
    """Four photos of plain colours in the collection `photos`."""
    photos = ImageCollection("photos", embedder, client)
    photos.add(
        [write_image(folder / f"{colour}.png", colour) for colour in COLOURS],
        captions=[f"all {colour}, seen by Ada" if colour == "red" else f"all {colour}" for colour in COLOURS],
        metadata=[
            {
                "album": "warm" if colour in ("red", "yellow") else "cold",
                "year": 2020 + at,
                "weight": at / 2,
                "odd name": colour,
                "taken_at": f"202{at}-05-01T12:00:00",
            }
            for at, colour in enumerate(COLOURS)
        ],
    )


def add_shoes(client: EdgeClient, embedder: FakeEmbedder, folder: Path) -> None:
    """Four products in `shoes`, a collection as another program makes it: two named vectors, numbers for ids."""
    client.create_collection(
        "shoes",
        {
            "image": models.VectorParams(size=embedder.dim, distance=models.Distance.COSINE),
            "text": models.VectorParams(size=8, distance=models.Distance.COSINE),
        },
    )
    client.create_payload_index("shoes", "product.brand", models.PayloadSchemaType.KEYWORD)
    vectors = embedder.embed_images([folder / f"{colour}.png" for colour in COLOURS])
    points = [
        models.PointStruct(
            id=at,
            vector={"image": vector.tolist(), "text": [1.0] * 8},
            payload={
                "image_path": str(folder / f"{colour}.png"),
                "title": f"a {colour} shoe",
                "product": {"brand": "Acme" if at < 4 else "Other", "sizes": [40, 41]},
                "id": "their own id",
                "blob": "x" * 9000,
            },
        )
        for at, (colour, vector) in enumerate(zip(COLOURS, vectors, strict=True), start=1)
    ]
    client.upsert("shoes", points, wait=True)
