"""ClipVectorStore: an image collection as a VectorStore of LangChain.

It finds images and texts, by text, image, vector or Query. What is added as a text is embedded as a text: it has a
caption and no image. A Document whose id is the uri of a stored image is about that image, so it changes caption and
metadata there, and the vector stays that of the picture.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.edit.metadata import edit_payloads
from clip_qdrant.collection.hits import Hit, Hits
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.options import list_of
from clip_qdrant.collection.points import batches, check_whole_number
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ConfigError, QueryError
from clip_qdrant.filters.build import Where
from clip_qdrant.images.load import ImageInput
from clip_qdrant.integrations.find_images import find, limit_to
from clip_qdrant.integrations.langchain.documents import make_document, read_metadata, uris_of
from clip_qdrant.integrations.langchain.embeddings import ClipEmbeddings
from clip_qdrant.integrations.payloads import check_caption, is_text, list_changes, text_uri
from clip_qdrant.records import ImageRecord

__all__ = ["ClipVectorStore"]

# What a search may ask for. A str is a text, a Path, bytes, PIL image or uint8 array an image.
Asked = str | Query | ImageInput


class ClipVectorStore(VectorStore):
    """A collection of images, and of texts where some were added. `images` is that collection.

    Every search takes a `filter`, which is what `where` is elsewhere (text, a dict or a models.Filter), and `options`,
    whose limit is `k`. Ids of Documents are the uris of images; texts keep the ids that they were given.
    Unlike other stores it takes no option that it does not know: a search without its filter gives wrong results.

    Raises QueryError, FilterError, StoreError; adding raises MetadataError too.
    """

    def __init__(self, images: ImageCollection) -> None:
        self.images = images

    @property
    def embeddings(self) -> ClipEmbeddings:
        return ClipEmbeddings(self.images.embedder)

    @classmethod
    def from_texts(  # type: ignore[override]  # a store needs a client and a name
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        client: QdrantBase,
        collection_name: str,
    ) -> ClipVectorStore:
        """A store over the collection of this name, with these texts added. `embedding` is a ClipEmbeddings."""
        if not isinstance(embedding, ClipEmbeddings):
            raise ConfigError(
                "a collection of images needs an embedder of images: give a ClipEmbeddings, not a "
                f"{type(embedding).__name__}"
            )
        store = cls(ImageCollection(collection_name, embedding.embedder, client))
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(  # type: ignore[override]  # see the class on options
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Stores texts, or changes caption and metadata of the stored images that their ids name; gives the ids.

        A text without an id gets a random one, and one whose id is there takes the place of what was there. Everything
        is checked before anything is written; `batch_size` texts are embedded and written at once.
        """
        check_whole_number("batch_size", batch_size, at_least=1)
        contents = list_of("texts", texts)
        given = [None] * len(contents) if metadatas is None else list_of("metadatas", metadatas)
        wanted = [None] * len(contents) if ids is None else list_of("ids", ids)
        for what, entries in (("metadatas", len(given)), ("ids", len(wanted))):
            if entries != len(contents):
                raise ConfigError(f"there are {len(contents)} texts and {entries} {what}; give one for each")
        names = [str(uuid.uuid4()) if name is None else name for name in wanted]
        if contents:
            self._store({name: each for name, *each in zip(names, contents, given, strict=True)}, batch_size)
        return names

    def delete(  # type: ignore[override]  # see the class on options
        self, ids: Sequence[str] | None = None, *, filter: Where | None = None
    ) -> bool:
        """Deletes images and texts by id, by filter, or those that both name; what is not there is no error."""
        if ids is None and filter is None:
            raise QueryError("delete() needs ids or a filter; images.drop() deletes the whole collection")
        uris = None if ids is None else [uri for name in list_of("ids", ids) for uri in uris_of(name)]
        self.images.delete(uris=uris, where=filter)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The Documents with these ids, in their order, without those that are not stored."""
        stored = self._read({name: uris_of(name) for name in list_of("ids", ids)})
        return [make_document(payload) for payload in stored.values()]

    def similarity_search(  # type: ignore[override]  # see the class on options
        self, query: Asked, k: int = 4, *, filter: Where | None = None, options: SearchOptions | None = None
    ) -> list[Document]:
        """The `k` Documents most like the query, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter, options=options)]

    def similarity_search_with_score(
        self, query: Asked, k: int = 4, *, filter: Where | None = None, options: SearchOptions | None = None
    ) -> list[tuple[Document, float]]:
        """The same with their scores: cosine similarities, unless the options look for words too."""
        return [(make_document(hit.payload), _score(hit)) for hit in self._find(query, k, filter, options)]

    def similarity_search_by_vector(  # type: ignore[override]  # see the class on options
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Where | None = None,
        options: SearchOptions | None = None,
    ) -> list[Document]:
        """The `k` Documents most like what a vector of this embedder stands for."""
        return self.similarity_search(Query.vector(embedding), k, filter=filter, options=options)

    def max_marginal_relevance_search(  # type: ignore[override]  # see the class on options
        self,
        query: Asked,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,
        options: SearchOptions | None = None,
    ) -> list[Document]:
        """`k` of the `fetch_k` best Documents, chosen for being like the query and unlike each other.

        `lambda_mult` is 1 for relevance alone and 0 for diversity alone (Carbonell, Goldstein 1998,
        https://doi.org/10.1145/290941.291025).
        """
        if not 0 <= lambda_mult <= 1:
            raise QueryError(f"lambda_mult is from 0 (the most diverse) to 1 (relevance alone), not {lambda_mult!r}")
        diverse = replace(limit_to(k, options), diversity=1 - lambda_mult, candidates=max(fetch_k, k))
        return self.similarity_search(query, k, filter=filter, options=diverse)

    def max_marginal_relevance_search_by_vector(  # type: ignore[override]  # see the class on options
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,
        options: SearchOptions | None = None,
    ) -> list[Document]:
        """The same by a vector of this embedder."""
        return self.max_marginal_relevance_search(
            Query.vector(embedding), k, fetch_k, lambda_mult, filter=filter, options=options
        )

    def _similarity_search_with_relevance_scores(  # type: ignore[override]  # see the class on options
        self, query: Asked, k: int = 4, *, filter: Where | None = None, options: SearchOptions | None = None
    ) -> list[tuple[Document, float]]:
        """Relevance from 0 to 1: the share of random pairs that are less alike, where the model or the collection is
        calibrated; else the cosine similarity, moved from -1…1 to 0…1.
        """
        if options is not None and options.text:
            raise QueryError("relevance is that of likeness, and text ranks by words too: leave it out of the options")
        return [(make_document(hit.payload), _relevance(hit)) for hit in self._find(query, k, filter, options)]

    async def _asimilarity_search_with_relevance_scores(  # type: ignore[override]  # see the class on options
        self, query: Asked, k: int = 4, *, filter: Where | None = None, options: SearchOptions | None = None
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(
            None, self._similarity_search_with_relevance_scores, query, k, filter=filter, options=options
        )

    def _find(self, query: Asked, k: int, where: Where | None, options: SearchOptions | None) -> Hits:
        if query is None:  # which lists all images elsewhere, without scores
            raise QueryError("a VectorStore is asked with a text, an image or a Query, not with None")
        return find(self.images, query, where=where, options=limit_to(k, options))

    def _store(self, documents: Mapping[str, Sequence[Any]], batch_size: int) -> None:
        """Stores texts and their metadata by id; those that name a stored image change that one."""
        writer = self.images.writer
        writer.look_again()
        stored = self._read({name: uris_of(name) for name in documents})
        edits, described, texts = [], [], []
        for name, (text, metadata) in documents.items():
            check_caption(name, text, metadata)
            there = stored.get(name)
            if there is None or is_text(there["uri"]):
                texts.append(writer.check(ImageRecord(text_uri(name), caption=text, metadata=metadata or {})))
                continue
            fields = read_metadata(there, metadata or {})
            if not there.get("image"):  # stored as a vector, which stays
                described.append(writer.check(ImageRecord(name, caption=text or None, metadata=fields)))
            elif changes := list_changes(there, text or None, fields):
                edits.append((there, changes))
        writer.prepare([*texts, *described])
        edit_payloads(writer, edits)
        writer.write_payloads(described)
        for some in batches(texts, batch_size):
            writer.write(some, self.images.embedder.embed_texts([record.caption or "" for record in some]))

    def _read(self, uris: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
        """The payload that each id stands for, without those that are not stored."""
        payloads = self.images.writer.read_payloads(list(dict.fromkeys(uri for some in uris.values() for uri in some)))
        found = {name: next((uri for uri in some if uri in payloads), None) for name, some in uris.items()}
        return {name: payloads[uri] for name, uri in found.items() if uri is not None}


def _score(hit: Hit) -> float:
    assert hit.score is not None, "there was a query"
    return hit.score


def _relevance(hit: Hit) -> float:
    return min(max((1 + _score(hit)) / 2, 0.0), 1.0) if hit.relevance is None else hit.relevance
