"""The standard suites of LangChain (langchain-tests) pass: embeddings, vector store, retriever and tool."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image
from qdrant_client import QdrantClient

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed")

from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests, ToolsUnitTests

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.integrations.langchain import ClipEmbeddings, ClipImageRetriever, ClipSearchTool, ClipVectorStore
from clip_qdrant.store.edge.client import EdgeClient

# The async ones among the inherited tests want the mark, which the others are told of.
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio':pytest.PytestWarning"),
]


class EmbedderOfSuite(FakeEmbedder):
    """Texts by the embeddings that the suite wants to be used."""

    def __init__(self, embeddings: Embeddings) -> None:
        super().__init__(name="suite")
        self.embeddings = embeddings
        self.dim = len(embeddings.embed_query("a text"))
        self.fingerprint = hashlib.sha256(b"suite").hexdigest()

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        vectors = np.array([self.embeddings.embed_query(text) for text in texts], np.float32).reshape(-1, self.dim)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def photos() -> Iterator[ImageCollection]:
    client = QdrantClient(":memory:")
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(
        [solid_image(colour) for colour in ("red", "green", "blue", "yellow")],
        captions=["red", "green", "blue", None],
        metadata=[{"year": year} for year in (2021, 2022, 2023, 2024)],
    )
    yield photos
    client.close()


class OverPhotos:
    @pytest.fixture(autouse=True)
    def use_photos(self, photos: ImageCollection) -> None:
        self.photos = photos


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    embeddings_class = ClipEmbeddings
    embedding_model_params: ClassVar[dict[str, Any]] = {"embedder": FakeEmbedder()}


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = ClipEmbeddings
    embedding_model_params: ClassVar[dict[str, Any]] = {"embedder": FakeEmbedder()}


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[ClipVectorStore]:  # type: ignore[override]
        with EdgeClient(tmp_path / "store") as client:
            yield ClipVectorStore(ImageCollection("texts", EmbedderOfSuite(self.get_embeddings()), client))


class TestVectorStoreInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[ClipVectorStore]:  # type: ignore[override]
        client = QdrantClient(":memory:")
        yield ClipVectorStore(ImageCollection("texts", EmbedderOfSuite(self.get_embeddings()), client))
        client.close()


class TestRetriever(OverPhotos, RetrieversIntegrationTests):
    retriever_constructor = ClipImageRetriever
    retriever_query_example = "red"

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"images": self.photos}


class OverTool(OverPhotos):
    tool_constructor = ClipSearchTool
    tool_invoke_params_example: ClassVar[dict[str, Any]] = {"query": "red", "where": "year < 2024", "limit": 2}

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"images": self.photos}


class TestToolUnit(OverTool, ToolsUnitTests):
    pass


class TestTool(OverTool, ToolsIntegrationTests):
    pass
