"""Haystack components that embed: texts (text_embedder.py), and images of documents (document_image_embedder.py)."""

import haystack_integrations.document_stores.clip_qdrant  # noqa: F401  # which says so where there is no Haystack
from haystack_integrations.components.embedders.clip_qdrant.document_image_embedder import ClipDocumentImageEmbedder
from haystack_integrations.components.embedders.clip_qdrant.text_embedder import ClipTextEmbedder

__all__ = ["ClipDocumentImageEmbedder", "ClipTextEmbedder"]
