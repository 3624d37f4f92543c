"""What is stored as a Document of LangChain, and how a Document is called in a collection.

A Document of an image has the caption as its content, the uri as its id, and the metadata of the image with `taken_at`
and `location`. A text that was added as a Document lies beside the images under a uri made of its id, which comes back
as it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from langchain_core.documents import Document

from clip_qdrant.collection.hits import Hit
from clip_qdrant.errors import QueryError
from clip_qdrant.uris import to_uri
from clip_qdrant.url_secrets import remove_secrets

__all__ = ["list_changes", "make_document", "make_image_document", "uri_of"]

_TEXT = "urn:text:"
_BESIDE = ("taken_at", "location")  # what metadata may name and the payload keeps beside it
_OF_HITS = ("uri", "score", "relevance")  # what a retriever adds


def uri_of(id: str) -> str:
    """The uri of the image or text that a Document id stands for: a uri stands for itself, another id for a text."""
    if not isinstance(id, str):
        raise QueryError(f"the id of a Document is text, not {id!r}")
    if not id.startswith(_TEXT) and to_uri(id) == id and remove_secrets(id) == id:
        return id
    return _TEXT + quote(id, safe="")


def make_document(payload: Mapping[str, Any]) -> Document:
    """The Document of a payload; nothing is added to its metadata, so that what was added comes back."""
    uri = payload.get("uri")
    return Document(
        id=None if uri is None else unquote(uri.removeprefix(_TEXT)) if uri.startswith(_TEXT) else uri,
        page_content=payload.get("caption") or "",
        metadata={
            **(payload.get("metadata") or {}),
            **{name: payload[name] for name in _BESIDE if name in payload},
        },
    )


def make_image_document(hit: Hit) -> Document:
    """The Document of a hit, with `uri`, `score` and, where it is known, `relevance` in its metadata."""
    document = make_document(hit.payload)
    told = dict(zip(_OF_HITS, (hit.uri, hit.score, hit.relevance), strict=True))
    document.metadata.update({name: value for name, value in told.items() if value is not None})
    return document


def list_changes(payload: Mapping[str, Any], text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a stored image that of a Document, as `update_metadata` takes it: None for a field to take away.

    A Document of a retriever may come back as it is: what that added is no metadata.
    """
    if metadata.get("uri") == payload["uri"]:
        metadata = {name: value for name, value in metadata.items() if name not in _OF_HITS}
    now = make_document(payload)
    changes = {name: None for name in now.metadata if name not in metadata}
    changes |= {name: value for name, value in metadata.items() if now.metadata.get(name) != value}
    return changes if now.page_content == text else {**changes, "caption": text or None}
