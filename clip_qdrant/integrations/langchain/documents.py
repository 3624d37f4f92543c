"""What is stored as a Document of LangChain, and how a Document is called in a collection.

A Document of an image has the caption as its content, the uri as its id, and the metadata of the image with `taken_at`
and `location`. A text that was added as a Document lies beside the images under a uri made of its id, which comes back
as it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.documents import Document

from clip_qdrant.collection.hits import Hit
from clip_qdrant.errors import QueryError
from clip_qdrant.integrations.payloads import is_text, read_fields, text_id, text_uri
from clip_qdrant.uris import to_uri
from clip_qdrant.url_secrets import remove_secrets

__all__ = ["make_document", "make_image_document", "read_metadata", "uris_of"]

_OF_HITS = ("uri", "score", "relevance")  # what a retriever adds


def uris_of(id: str) -> list[str]:
    """What a Document id may stand for: the image at this uri, if it is one, or else the text of this id."""
    if not isinstance(id, str):
        raise QueryError(f"the id of a Document is text, not {id!r}")
    names_image = to_uri(id) == id and remove_secrets(id) == id and not is_text(id)
    return [id, text_uri(id)] if names_image else [text_uri(id)]


def make_document(payload: Mapping[str, Any]) -> Document:
    """The Document of a payload; nothing is added to its metadata, so that what was added comes back."""
    uri = payload.get("uri")
    name = None if uri is None else text_id(uri)
    return Document(
        id=uri if name is None else name,
        page_content=payload.get("caption") or "",
        metadata=read_fields(payload),
    )


def make_image_document(hit: Hit) -> Document:
    """The Document of a hit, with `uri`, `score` and, where it is known, `relevance` in its metadata."""
    document = make_document(hit.payload)
    told = dict(zip(_OF_HITS, (hit.uri, hit.score, hit.relevance), strict=True))
    document.metadata.update({name: value for name, value in told.items() if value is not None})
    return document


def read_metadata(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a Document gives a stored image.

    A Document of a retriever may come back as it is: what that added is no metadata.
    """
    added = _OF_HITS if metadata.get("uri") == payload["uri"] else ()
    return {name: value for name, value in metadata.items() if name not in added}
