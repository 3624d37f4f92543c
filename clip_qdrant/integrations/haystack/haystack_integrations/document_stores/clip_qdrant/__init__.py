"""ClipQdrantDocumentStore (document_store.py): a collection of images as a Haystack document store.

documents.py turns documents into images of the collection and hits into documents, filters.py Haystack's filters into
those of the collection, fields.py tells what the metadata hold. images.py finds the image of a document, model.py loads
a model once for all components that name it, the embedders among them.
"""

import importlib.util

from clip_qdrant.errors import MissingExtra

if importlib.util.find_spec("haystack") is None:
    raise MissingExtra("haystack-ai", "haystack", "the Haystack integration")

from haystack_integrations.document_stores.clip_qdrant.document_store import ClipQdrantDocumentStore

__all__ = ["ClipQdrantDocumentStore"]
