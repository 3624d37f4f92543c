"""The image of a Haystack document: the bytes it carries, or the file that its metadata name."""

from __future__ import annotations

from pathlib import Path

from haystack.dataclasses import ByteStream, Document, ImageContent

from clip_qdrant.errors import SourceError
from clip_qdrant.images.inline import decode_inline_image

__all__ = ["FILE_PATH", "find_image", "find_path", "read_bytes_of"]

FILE_PATH = "file_path"  # the field by which Haystack's own components name the file of a document


def find_image(document: Document, *, field: str = FILE_PATH, root: str | None = None) -> Path | bytes | None:
    """The image that a document carries, or the path of the one it names; None for a document of text alone.

    Raises SourceError for a path that leads out of `root`.
    """
    if document.blob is not None and (document.blob.mime_type or "image/").startswith("image/"):
        return document.blob.data
    named = document.meta.get(field)
    return None if named is None else find_path(str(named), root)


def find_path(name: str, root: str | None) -> Path:
    """A path within `root`, where there is one. Documents may come from strangers, so nothing leads out of it."""
    if root is None:
        return Path(name)
    path = Path(root) / name
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise SourceError(f"the path {name!r} leads out of root_path {root!r}; name a file inside it")
    return path


def read_bytes_of(image: ByteStream | ImageContent) -> bytes:
    """The encoded image that one of Haystack's own types carries. Raises NotAnImage."""
    return image.data if isinstance(image, ByteStream) else decode_inline_image(image.base64_image)
