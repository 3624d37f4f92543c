"""ClipQdrantRetriever: images by text, image or vector, as Haystack documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream, ImageContent
from haystack.document_stores.types import FilterPolicy, apply_filter_policy
from haystack.errors import FilterError as HaystackFilterError

from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ConfigError, FilterError, QueryError
from clip_qdrant.integrations.find_images import find, find_images, join_filters
from haystack_integrations.document_stores.clip_qdrant import ClipQdrantDocumentStore
from haystack_integrations.document_stores.clip_qdrant.images import find_path, read_bytes_of

__all__ = ["ClipQdrantRetriever"]


@component
class ClipQdrantRetriever:
    """The images most similar to a text, an image, a vector, or a sum of these, as documents.

    `filters` are Haystack's, and `filter_policy` says what becomes of them where a run brings its own ("replace" or
    "merge"). `where`, in the language of the collection, holds in every run. `search_options` are those of
    `ImageCollection.search` by name, such as {"text": True, "min_relevance": "auto"}, without the limit, which is
    `top_k`; {"vectors": True} gives the documents their embeddings. Documents of text alone are found only with
    `texts`: to a model of images and texts a text is nearer to every text than any image is.

    Raises ConfigError for an option that there is not, QueryError for one that cannot be.
    """

    def __init__(
        self,
        document_store: ClipQdrantDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        where: str | None = None,
        search_options: dict[str, Any] | None = None,
        texts: bool = False,
    ) -> None:
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.where = where
        self.search_options = dict(search_options or {})
        self.texts = texts
        self._options = _read_options(self.search_options, top_k)

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it into a file, its document store included; raises as that does."""
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            where=self.where,
            search_options=self.search_options,
            texts=self.texts,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClipQdrantRetriever:
        """The component that `to_dict` described."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Opens the collection and loads the model."""
        self.document_store.warm_up()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        query_image: str | ByteStream | ImageContent | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, Any]:
        """Documents, best first, with the cosine similarity as `score`. Of several queries the sum is looked for.

        `query_image` is the path of a file, within the `root_path` of the store, or an image of Haystack's. Raises
        QueryError without any query, ImageError, SourceError, and Haystack's FilterError.
        """
        asked = _add_up(query, query_embedding, query_image, self.document_store.root_path)
        options = self._options if top_k is None else replace(self._options, limit=top_k)
        if options.text is True and query is None:  # there are no words to look for
            options = replace(options, text=None, text_fields=None)
        store = self.document_store
        wanted = apply_filter_policy(self.filter_policy, self.filters, filters)
        where = join_filters(self.where, store.build_where(wanted))
        try:
            ask = find if self.texts else find_images
            hits = ask(store.images, asked, where=where, options=options)
        except FilterError as error:
            raise HaystackFilterError(str(error)) from error
        return {"documents": [store.make_document(hit) for hit in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        query_image: str | ByteStream | ImageContent | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, Any]:
        """`run` for async code, in a thread."""
        return await asyncio.to_thread(self.run, query, query_embedding, query_image, filters, top_k)


def _read_options(given: Mapping[str, Any], top_k: int) -> SearchOptions:
    if "limit" in given:
        raise ConfigError(f"search_options has limit {given['limit']!r}: the number of documents is top_k")
    try:
        return SearchOptions(**given, limit=top_k)
    except TypeError as error:
        known = ", ".join(name for name in SearchOptions.__dataclass_fields__ if name != "limit")
        raise ConfigError(f"search_options {given!r}: {error}; there are {known}") from error


def _add_up(
    text: str | None,
    vector: list[float] | None,
    image: str | ByteStream | ImageContent | None,
    root: str | None,
) -> Query:
    parts: list[Query] = []
    if text is not None:
        parts.append(Query.text(text))
    if vector is not None:
        parts.append(Query.vector(vector))
    if image is not None:
        parts.append(Query.image(find_path(image, root) if isinstance(image, str) else read_bytes_of(image)))
    if not parts:
        raise QueryError("there is nothing to search for: give query, query_embedding or query_image")
    return sum(parts[1:], parts[0])
