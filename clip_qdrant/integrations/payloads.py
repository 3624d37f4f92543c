"""Documents of frameworks in a collection: the uris of texts beside the images, and what payloads have for metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from clip_qdrant.errors import MetadataError
from clip_qdrant.filters.build import Where

__all__ = ["NO_TEXTS", "check_caption", "is_text", "list_changes", "read_fields", "text_id", "text_uri"]

_TEXT = "urn:text:"
NO_TEXTS: Where = {"not": {"uri": {"^=": _TEXT}}}
_BESIDE = ("taken_at", "location")  # what metadata may name and the payload keeps beside it


def text_uri(id: str) -> str:
    """The uri of the text whose document has this id. No two ids share one, and no image has one."""
    return _TEXT + quote(id, safe="")


def text_id(uri: str) -> str | None:
    """The id of the document of a text, None for the uri of an image."""
    return unquote(uri.removeprefix(_TEXT)) if is_text(uri) else None


def is_text(uri: str) -> bool:
    """Whether a uri is that of a text. An image may be stored as a vector alone, so its payload does not tell."""
    return uri.startswith(_TEXT)


def read_fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a payload, with date and place, as `ImageCollection.add` takes them."""
    return {**(payload.get("metadata") or {}), **{name: payload[name] for name in _BESIDE if name in payload}}


def check_caption(name: str, content: str, metadata: Any) -> None:
    """Raises MetadataError for a caption in the metadata of a document: the content is it, and one would be lost."""
    if isinstance(metadata, Mapping) and metadata.get("caption", content) != content:
        raise MetadataError(
            f"{name}: the content of a document becomes the caption, and its metadata have another one; use another "
            "name there",
            field="caption",
        )


def list_changes(payload: Mapping[str, Any], caption: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What gives a payload this caption and these fields, as `edit_payloads` takes it: None for one to remove."""
    now = read_fields(payload)
    changes: dict[str, Any] = {name: None for name in now if name not in fields}
    changes |= {name: value for name, value in fields.items() if now.get(name) != value}
    return changes if caption == payload.get("caption") else {**changes, "caption": caption}
