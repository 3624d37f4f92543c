"""LlamaIndex over an image collection: a multi-modal embedding, a retriever, an image store. docs/llama-index.md.

embedding.py has the model, nodes.py says what a stored image is as an ImageNode, retriever.py finds images, filters.py
reads MetadataFilters, image_store.py is the image store of a MultiModalVectorStoreIndex.
"""

from __future__ import annotations

from clip_qdrant.errors import MissingExtra

try:
    import llama_index.core  # noqa: F401  # whether it is there
except ImportError as error:
    raise MissingExtra("llama-index-core", "llama-index", "the integration of LlamaIndex") from error

from clip_qdrant.integrations.llama_index.embedding import ClipMultiModalEmbedding
from clip_qdrant.integrations.llama_index.image_store import ImageNodeStore
from clip_qdrant.integrations.llama_index.retriever import ImageNodeRetriever

__all__ = ["ClipMultiModalEmbedding", "ImageNodeRetriever", "ImageNodeStore"]
