"""ImageNodeRetriever: finds images by texts and by images, as ImageNodes, in any query engine of LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.image_retriever import BaseImageRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores import MetadataFilters

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError
from clip_qdrant.filters.build import Where
from clip_qdrant.integrations.find_images import find_images, limit_to
from clip_qdrant.integrations.llama_index.filters import read_filters
from clip_qdrant.integrations.llama_index.nodes import make_node

__all__ = ["ImageNodeRetriever"]


class ImageNodeRetriever(BaseRetriever, BaseImageRetriever):
    """The `k` images of a collection that are most like the query, best first.

    A query is a text, or a QueryBundle: of its texts and its image together where it has both. Its `embedding` counts
    where it has neither, since another retriever may have left its own there. `filters` are MetadataFilters, or what
    `where` of a search is: text, a dict or a models.Filter. `options` are all others; `k` is their limit.
    Raises QueryError, FilterError, ImageError, StoreError.
    """

    def __init__(
        self,
        images: ImageCollection,
        *,
        k: int = 4,
        filters: MetadataFilters | Where | None = None,
        options: SearchOptions | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.where = read_filters(filters, images.fields)
        self.options = limit_to(k, options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle, _read_query)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle, _read_texts)

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._text_to_image_retrieve, query_bundle)

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle, _read_image)

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._image_to_image_retrieve, query_bundle)

    def _find(self, bundle: QueryBundle, read: Callable[[QueryBundle], Query | None]) -> list[NodeWithScore]:
        query = read(bundle)
        if query is None:
            raise QueryError("the query is empty; say what the images should show, or give image_path")
        return [make_node(hit) for hit in find_images(self.images, query, where=self.where, options=self.options)]


def _read_query(bundle: QueryBundle) -> Query | None:
    texts, image = _read_texts(bundle), _read_image(bundle)
    if texts is not None and image is not None:
        return texts + image
    vector = None if bundle.embedding is None else Query.vector(bundle.embedding)
    return texts or image or vector


def _read_texts(bundle: QueryBundle) -> Query | None:
    texts = [Query.text(text) for text in bundle.embedding_strs]
    return sum(texts[1:], texts[0]) / len(texts) if texts else None


def _read_image(bundle: QueryBundle) -> Query | None:
    return None if bundle.image_path is None else Query.image(bundle.image_path)
