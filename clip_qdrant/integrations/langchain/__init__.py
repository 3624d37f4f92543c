"""LangChain over an image collection: embeddings, a retriever, a vector store and a tool for agents. docs/langchain.md.

embeddings.py has the model, documents.py says what a stored image is as a Document, retriever.py finds images,
vector_store.py also stores texts and describes images, tool.py lets an agent search.
"""

from __future__ import annotations

from clip_qdrant.errors import MissingExtra

try:
    import langchain_core  # noqa: F401  # whether it is there
except ImportError as error:
    raise MissingExtra("langchain-core", "langchain", "the integration of LangChain") from error

from clip_qdrant.integrations.langchain.embeddings import ClipEmbeddings
from clip_qdrant.integrations.langchain.retriever import ClipImageRetriever
from clip_qdrant.integrations.langchain.tool import ClipSearchTool
from clip_qdrant.integrations.langchain.vector_store import ClipVectorStore

__all__ = ["ClipEmbeddings", "ClipImageRetriever", "ClipSearchTool", "ClipVectorStore"]
