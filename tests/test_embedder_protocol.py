"""An embedder of one's own is looked at when a collection is opened with it, not when its first image comes."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeEmbedder
from qdrant_client.client_base import QdrantBase

from clip_qdrant import ImageCollection
from clip_qdrant.errors import ConfigError


class Half:
    """An embedder to which its author has not yet given all."""

    dim = 16
    fingerprint = "half"

    def embed_images(self, images: Any) -> Any: ...


def changed(**members: Any) -> FakeEmbedder:
    embedder = FakeEmbedder()
    for name, value in members.items():
        setattr(embedder, name, value)
    return embedder


@pytest.mark.parametrize(
    ("embedder", "told"),
    [
        (Half(), "a Half, lacks image_size, preprocess, embed_pixels, embed_texts"),
        (None, "a NoneType, lacks dim"),
        ("bundled", "a str, lacks dim"),
        (FakeEmbedder, "is the class FakeEmbedder: give an object"),
        (changed(embed_texts=[1.0]), "embed_texts of the embedder, a FakeEmbedder, must be a method"),
        (changed(dim=lambda: 16), "dim of the embedder, a FakeEmbedder, is a method: make it a property"),
        (changed(dim=0), "dim of the embedder, a FakeEmbedder, is 0"),
        (changed(image_size=16.5), "image_size of the embedder, a FakeEmbedder, is 16.5"),
        (changed(fingerprint=""), "fingerprint of the embedder, a FakeEmbedder, is ''"),
        (changed(fingerprint=7), "fingerprint of the embedder, a FakeEmbedder, is 7"),
    ],
)
def test_what_an_embedder_lacks_is_told_at_construction(memory_client: QdrantBase, embedder: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ImageCollection("photos", embedder, memory_client)
