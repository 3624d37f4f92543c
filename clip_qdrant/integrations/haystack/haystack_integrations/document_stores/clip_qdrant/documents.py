"""Documents <-> images of a collection.

A document with an image is that image, known by its uri: the one in `meta["uri"]`, that of its path, or one made of
its bytes. A document of text alone is `urn:text:<id>`. Its content is the caption, its metadata are the metadata.
An id that the uri does not tell is kept in the metadata, as `haystack_id`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from haystack.dataclasses import Document

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.query import as_vector, to_unit
from clip_qdrant.errors import ConfigError, QueryError
from clip_qdrant.image_names import member_of
from clip_qdrant.images.load import load_image
from clip_qdrant.integrations.payloads import check_caption, read_fields, text_id, text_uri
from clip_qdrant.records import ImageRecord, add_image, read_said
from clip_qdrant.uris import path_of, point_id, read_uri, to_uri
from clip_qdrant.url_secrets import remove_secrets
from haystack_integrations.document_stores.clip_qdrant.images import FILE_PATH, find_image, find_path

__all__ = [
    "DOCUMENT_ID",
    "StoredDocument",
    "change_fields",
    "make_document",
    "path_uri",
    "read_document",
    "read_image",
]

DOCUMENT_ID = "haystack_id"
_URI = "uri"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is stored: its image, or a vector of it, float32 (dim,), or a text that is to be embedded.

    `names_image` says that it is told by the uri alone which image it is about.
    """

    id: str
    record: ImageRecord
    image: Path | bytes | None
    vector: np.ndarray | None
    names_image: bool

    @property
    def uri(self) -> str:
        return self.record.uri


def path_uri(name: str, root: str | None) -> str:
    """The uri of the image at a path. Raises SourceError for one that leads out of `root`."""
    return to_uri(find_path(name, root))


def read_document(document: Document, root: str | None) -> StoredDocument:
    """What is stored of a document.

    Raises ConfigError for one that has neither image, nor embedding, nor content, or an embedding that is no direction;
    SourceError for a path that leads out of `root`; MetadataError for two captions.
    """
    metadata = dict(document.meta)
    if document.content is not None:
        check_caption(f"document {document.id}", document.content, metadata)
    image = find_image(document, root=root)
    given, path = metadata.pop(_URI, None), metadata.pop(FILE_PATH, None)
    if given is not None:
        uri = _check_uri(given, document.id)
        local = path_of(uri) if member_of(uri) is None else None
        image = find_path(str(local), root) if image is None and local is not None else image
    elif path is not None:
        uri = path_uri(str(path), root)
    elif isinstance(image, bytes):
        uri = f"urn:sha256:{hashlib.sha256(image).hexdigest()}"
    else:
        uri = text_uri(document.id)
    if uri != text_uri(document.id) and document.id != point_id(uri):
        metadata[DOCUMENT_ID] = document.id
    names_image = given is not None and not isinstance(image, bytes)
    if document.embedding is None and image is None and given is None and not document.content:
        raise ConfigError(
            f"document {document.id} has nothing to be found by: give it content, an embedding, a blob that is an "
            f"image, or a path in meta[{FILE_PATH!r}]"
        )
    record = ImageRecord(uri, caption=document.content or None, metadata=metadata)
    return StoredDocument(document.id, record, image, _read_embedding(document), names_image)


def read_image(document: StoredDocument, target: int | None) -> ImageRecord:
    """The record with what its image tells, where that is at hand: size, hashes, date and place. Raises ImageError."""
    image = document.image
    if image is None or (isinstance(image, Path) and not image.is_file()):
        return document.record
    loaded = load_image(image, target=target)
    return add_image(document.record, loaded.info, loaded.taken_at, loaded.location)


def change_fields(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> ImageRecord:
    """The record of a payload without an image, with fields changed; None takes one away."""
    metadata = {**read_said(stored), **changes}
    kept = {name: value for name, value in metadata.items() if value is not None}
    return ImageRecord(stored["uri"], caption=stored.get("caption"), metadata=kept)


def make_document(hit: Hit, root: str | None) -> Document:
    """A stored image as a document: `meta` has its metadata, uri and date and place, `file_path` for a local file."""
    meta = read_fields(hit.payload)
    own = meta.pop(DOCUMENT_ID, None)
    document_id = text_id(hit.uri)
    if document_id is None:
        document_id = own or hit.id
        meta[_URI] = hit.uri
        if hit.path is not None:
            meta[FILE_PATH] = _name_path(hit.path, root)
    embedding = None if hit.vector is None else hit.vector.tolist()
    return Document(id=document_id, content=hit.caption, meta=meta, score=hit.score, embedding=embedding)


def _name_path(path: Path, root: str | None) -> str:
    """A path as other components with the same `root_path` look for it."""
    if root is not None and path.is_relative_to(Path(root).absolute()):
        return str(path.relative_to(Path(root).absolute()))
    return str(path)


def _check_uri(given: Any, document_id: str) -> str:
    if (uri := read_uri(given)) is None:
        raise ConfigError(
            f"document {document_id}: meta['uri'] is {given!r}, which has no scheme that is known, such as urn: or "
            f"s3://; a path goes into meta[{FILE_PATH!r}]"
        )
    return remove_secrets(uri)


def _read_embedding(document: Document) -> np.ndarray | None:
    if document.embedding is None:
        return None
    try:
        return to_unit(as_vector(document.embedding)).astype(np.float32)
    except QueryError as error:
        raise ConfigError(f"document {document.id} has an embedding that cannot be stored: {error}") from error
