"""ClipQdrantRetriever (retriever.py): images by text, image or vector, as Haystack documents."""

import haystack_integrations.document_stores.clip_qdrant  # noqa: F401  # which says so where there is no Haystack
from haystack_integrations.components.retrievers.clip_qdrant.retriever import ClipQdrantRetriever

__all__ = ["ClipQdrantRetriever"]
