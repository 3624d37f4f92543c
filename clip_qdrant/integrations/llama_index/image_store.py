"""ImageNodeStore: an image collection as the image store of a MultiModalVectorStoreIndex of LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, ImageNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ConfigError, NotAnImage, QueryError
from clip_qdrant.fields.types import METADATA_PREFIX
from clip_qdrant.filters.build import Where
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.integrations.find_images import find_images, join_filters
from clip_qdrant.integrations.llama_index.filters import read_filters
from clip_qdrant.integrations.llama_index.nodes import NODE_ID, REF_DOC_ID, make_node

__all__ = ["ImageNodeStore"]

_WORDS = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.TEXT_SEARCH)


class ImageNodeStore(BasePydanticVectorStore):
    """The image store of an index: what is in the collection is found, also what came there by other ways.

    Images of nodes are added as `ImageCollection.add` does it: embedded by the embedder of the collection, whatever
    embedding the node has, and known by their uri, so that one file is one image. Their node ids come back. The images
    of nodes are files (`image_path`) or bytes (`image`, base64 or a data URL): nothing is fetched from a URL.
    Async methods run in a thread. Raises QueryError, FilterError, StoreError; adding raises what `add` does.
    """

    stores_text: bool = True
    _images: ImageCollection = PrivateAttr()

    def __init__(self, images: ImageCollection) -> None:
        super().__init__(stores_text=True)
        self._images = images

    @classmethod
    def class_name(cls) -> str:
        return "ImageNodeStore"

    @property
    def client(self) -> QdrantBase:
        return self._images.client

    @property
    def images(self) -> ImageCollection:
        """The collection."""
        return self._images

    def add(self, nodes: Sequence[BaseNode]) -> list[str]:  # type: ignore[override]  # no option is passed over
        """Adds the images of ImageNodes; gives the ids of the nodes. Raises ConfigError for other nodes."""
        chosen = [_check_node(node) for node in nodes]
        self._images.add(
            [_read_image(node) for node in chosen],
            uris=[node.image_url if node.image and not node.image_path else None for node in chosen],
            captions=[node.text or None for node in chosen],
            metadata=[_read_metadata(node) for node in chosen],
        )
        return [node.node_id for node in chosen]

    async def async_add(self, nodes: Sequence[BaseNode]) -> list[str]:  # type: ignore[override]  # as add
        return await asyncio.to_thread(self.add, nodes)

    def delete(self, ref_doc_id: str) -> None:  # type: ignore[override]  # as add
        """Deletes the images whose nodes were made of this document."""
        if self._has(REF_DOC_ID):
            self._images.delete(where={REF_DOC_ID: ref_doc_id})

    async def adelete(self, ref_doc_id: str) -> None:  # type: ignore[override]  # as add
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(  # type: ignore[override]  # as add
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> None:
        """Deletes the images of these nodes, those that pass the filters, or with both those in both."""
        if node_ids is not None and not node_ids:
            return
        self._images.delete(where=join_filters(self._select(NODE_ID, node_ids), self._read_filters(filters)))

    async def adelete_nodes(  # type: ignore[override]  # as add
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> None:
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Deletes the whole collection."""
        self._images.drop()

    async def aclear(self) -> None:
        await asyncio.to_thread(self.clear)

    def query(  # type: ignore[override]  # as add
        self, query: VectorStoreQuery, *, mmr_threshold: float | None = None
    ) -> VectorStoreQueryResult:
        """The images nearest to the embedding of the query, or with its words, as its mode says.

        `mmr_threshold` is 1 for relevance alone and 0 for diversity alone, 0.5 if nothing is said.
        """
        where = join_filters(self._read_filters(query.filters), self._select(NODE_ID, query.node_ids))
        where = join_filters(where, self._select(REF_DOC_ID, query.doc_ids))
        found = find_images(self._images, _read_query(query), where=where, options=_read_options(query, mmr_threshold))
        nodes = [make_node(hit) for hit in found]
        return VectorStoreQueryResult(
            nodes=[one.node for one in nodes],
            similarities=[one.score or 0.0 for one in nodes],
            ids=[one.node.node_id for one in nodes],
        )

    async def aquery(  # type: ignore[override]  # as add
        self, query: VectorStoreQuery, *, mmr_threshold: float | None = None
    ) -> VectorStoreQueryResult:
        return await asyncio.to_thread(self.query, query, mmr_threshold=mmr_threshold)

    def _select(self, field: str, ids: list[str] | None) -> Where | None:
        """The images of nodes or documents with these ids; an image that was no node has its uri for an id."""
        if not ids:  # an index over a store that keeps its texts knows of no nodes
            return None
        choices: list[Where] = [{"uri": {"in": ids}}]
        if self._has(field):
            choices.append({field: {"in": ids}})
        return {"or": choices}

    def _read_filters(self, filters: MetadataFilters | None) -> Where | None:
        return read_filters(filters, self._images.fields)

    def _has(self, field: str) -> bool:
        """Whether images have this metadata field; looks again where none had it, as others may have added some."""
        key = METADATA_PREFIX + field
        return key in self._images.fields or (self._images.exists() and key in self._images.fields)


def _check_node(node: BaseNode) -> ImageNode:
    if not isinstance(node, ImageNode):
        raise ConfigError(f"node {node.node_id} is a {type(node).__name__}: a collection of images takes ImageNodes")
    return node


def _read_image(node: ImageNode) -> Any:
    """What `ImageCollection.add` takes: it refuses a URL, and says what to do."""
    if node.image is not None and not node.image_path:
        try:
            return decode_inline_image(node.image)
        except NotAnImage as error:
            raise NotAnImage(f"the image of node {node.node_id}: {error}") from error
    image = node.image_path or node.image_url
    if image is None:
        raise ConfigError(f"node {node.node_id} has no image: give it image_path, or image (base64)")
    return image


def _read_metadata(node: ImageNode) -> dict[str, Any]:
    """The metadata of a node; uri and caption, which `make_node` tells, are none, and the id may be that uri."""
    ids = {NODE_ID: None if node.node_id == node.metadata.get("uri") else node.node_id, REF_DOC_ID: node.ref_doc_id}
    return {**{name: value for name, value in node.metadata.items() if name not in ("uri", "caption")}, **ids}


def _read_query(query: VectorStoreQuery) -> Query | None:
    if query.mode == VectorStoreQueryMode.TEXT_SEARCH:
        return None
    if query.query_embedding is None:
        raise QueryError("the query has no embedding: give the index the embedding of the collection")
    return Query.vector(query.query_embedding)


def _read_options(query: VectorStoreQuery, mmr_threshold: float | None) -> SearchOptions:
    limit, mode = query.similarity_top_k, VectorStoreQueryMode(query.mode)
    if mode in _WORDS:
        if not query.query_str:
            raise QueryError(f"the query has no text, whose words mode {mode.value!r} looks for")
        if mode == VectorStoreQueryMode.HYBRID:
            limit = query.hybrid_top_k or limit
        weight = 0.5 if query.alpha is None else 1 - query.alpha
        return SearchOptions(limit=limit, text=query.query_str, text_weight=weight)
    if mode == VectorStoreQueryMode.MMR:
        relevant = query.mmr_threshold if mmr_threshold is None else mmr_threshold
        return SearchOptions(limit=limit, diversity=0.5 if relevant is None else 1 - relevant)
    if mode != VectorStoreQueryMode.DEFAULT:
        raise QueryError(f"there is no mode {mode.value!r} here; there are default, mmr, hybrid and text_search")
    return SearchOptions(limit=limit)
