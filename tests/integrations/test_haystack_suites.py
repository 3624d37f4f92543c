"""ClipQdrantDocumentStore passes Haystack's own suites for document stores, over local mode and the embedded store.

Left out is what asks one field to hold values of several types (`…_unique_values_distinct_types`): a field has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fakes import FakeEmbedder
from qdrant_client import QdrantClient

from clip_qdrant import ImageCollection
from clip_qdrant.store.edge.client import EdgeClient

pytest.importorskip("haystack", reason="haystack-ai is not installed")

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

from haystack_integrations.document_stores.clip_qdrant import ClipQdrantDocumentStore


class EqualDocuments:
    """In any order, as a store of vectors has none; without embeddings, which are given on request."""

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        one, other = (
            sorted((replace(document, embedding=None).to_dict() for document in documents), key=lambda told: told["id"])
            for documents in (received, expected)
        )
        assert one == other


class OneType:
    def test_get_metadata_field_unique_values_distinct_types(self) -> None:
        pytest.skip("a field of a collection has one type")

    def test_get_metadata_field_unique_values_distinct_types_async(self) -> None:
        pytest.skip("a field of a collection has one type")


class TestInLocalMode(
    EqualDocuments,
    OneType,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
    async_suites.CountDocumentsAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
):
    @pytest.fixture
    def document_store(self) -> Iterator[ClipQdrantDocumentStore]:
        client = QdrantClient(":memory:")
        yield ClipQdrantDocumentStore.wrap(ImageCollection("images", FakeEmbedder(768), client))
        client.close()

    def test_write_documents(self, document_store: ClipQdrantDocumentStore) -> None:
        # By default a document that is there is overwritten.
        before, after = Document(id="1", content="before"), Document(id="1", content="after", meta={"year": 2024})
        assert document_store.write_documents([before]) == 1
        assert document_store.write_documents([after]) == 1
        self.assert_documents_are_equal(document_store.filter_documents(), [after])

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: ClipQdrantDocumentStore) -> None:
        document = Document(content="once")
        assert await document_store.write_documents_async([document]) == 1
        assert await document_store.write_documents_async([document], policy=DuplicatePolicy.OVERWRITE) == 1
        self.assert_documents_are_equal(await document_store.filter_documents_async(), [document])


class TestEmbedded(
    suites.FilterableDocsFixtureMixin, suites.DeleteAllTest, suites.DeleteByFilterTest, suites.UpdateByFilterTest
):
    """What changes documents; filters are the same for every store (tests/filters)."""

    @pytest.fixture
    def document_store(self, edge_client: EdgeClient) -> ClipQdrantDocumentStore:
        return ClipQdrantDocumentStore.wrap(ImageCollection("images", FakeEmbedder(768), edge_client))
