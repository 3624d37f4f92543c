"""The stock store of langchain-qdrant reads a collection, also the model's own and filters, by every client."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeEmbedder, write_image
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

pytest.importorskip("langchain_qdrant", reason="langchain-qdrant is not installed")

from langchain_qdrant import QdrantVectorStore

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.integrations.langchain import ClipEmbeddings, ClipVectorStore


@pytest.fixture
def photos(client: QdrantBase, collection_name: str, tmp_path: Path) -> ImageCollection:
    photos = ImageCollection(collection_name, FakeEmbedder(), client)
    photos.add(
        [write_image(tmp_path / f"{colour}.png", colour) for colour in ("red", "green", "blue")],
        captions=["all red", "all green", None],
        metadata=[{"year": 2021}, {"year": 2022}, {"year": 2023}],
    )
    return photos


def test_it_finds_the_same_images_with_the_same_scores(photos: ImageCollection) -> None:
    stock = QdrantVectorStore(
        client=photos.client,  # type: ignore[arg-type]  # any that has its methods
        collection_name=photos.name,
        embedding=ClipEmbeddings(photos.embedder),
        content_payload_key="caption",
        metadata_payload_key="metadata",
    )
    recent = models.Filter(must=[models.FieldCondition(key="metadata.year", range=models.Range(gte=2022))])

    for filter in (None, recent):
        found = stock.similarity_search_with_score("red", k=3, filter=filter)

        ours = ClipVectorStore(photos).similarity_search_with_score("red", k=3, filter=filter)
        assert [document.page_content for document, _ in found] == [document.page_content for document, _ in ours]
        assert [document.metadata["year"] for document, _ in found] == [doc.metadata["year"] for doc, _ in ours]
        assert [score for _, score in found] == pytest.approx([score for _, score in ours])
    assert stock.get_by_ids([photos.search("red")[0].id])[0].page_content == "all red"
    assert stock.as_retriever().invoke("green")[0].page_content == "all green"
