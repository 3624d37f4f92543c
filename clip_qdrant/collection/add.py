"""ImageCollection.add: images and what goes with them, a batch at a time, writing only what changed.

A file is read once and let go before the next is read, so the memory in use is that of one decoded image and of
`batch_size` images at the embedder's size. Hashes are compared before decoding: adding a folder again costs reading it,
and what decoding had told of an image is taken from its payload.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.collection.points import batches
from clip_qdrant.collection.unchanged import has_same_bytes, has_same_description
from clip_qdrant.embedder_protocol import find_needed_side
from clip_qdrant.errors import ConfigError, ImageError, SourceError
from clip_qdrant.images.load import (
    DEFAULT_LIMITS,
    ImageInput,
    Limits,
    LoadedImage,
    is_one_image,
    load_image,
    read_bytes,
)
from clip_qdrant.records import ImageRecord, add_image, add_stored_image, read_edits, read_said, read_source
from clip_qdrant.uris import path_of, read_uri, to_uri
from clip_qdrant.url_secrets import remove_secrets

if TYPE_CHECKING:
    from clip_qdrant.collection.writer import CollectionWriter

__all__ = ["AddResult", "add_images"]

_END = object()


@dataclass(frozen=True, slots=True)
class AddResult:
    """How many images were stored for the first time, were stored anew (at least the payload), and were as they are."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One image as it was passed. `uri` is "" until it is made from the bytes or pixels."""

    index: int
    image: ImageInput
    uri: str
    caption: str | None
    metadata: Mapping[str, Any] | None
    loaded: LoadedImage | None = None


def add_images(
    writer: CollectionWriter,
    images: Iterable[ImageInput],
    *,
    uris: Iterable[str | os.PathLike[str] | None] | None,
    captions: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> AddResult:
    """See ImageCollection.add."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    columns = {"uris": uris, "captions": captions, "metadata": metadata}
    given = {name: column for name, column in columns.items() if column is not None}
    _check_lengths(images, given)
    writer.look_again()
    total = AddResult()
    for batch in batches(_make_rows(images, given), batch_size):
        done = _add_batch(writer, batch)
        total = AddResult(total.added + done.added, total.updated + done.updated, total.unchanged + done.unchanged)
        if progress is not None:
            progress(len(batch))
    return total


def _check_lengths(images: Iterable[ImageInput], given: Mapping[str, Iterable[Any]]) -> None:
    """Refuses, before anything is read, a single image, and lengths that can be seen to differ."""
    if is_one_image(images):
        raise ConfigError(f"add() takes an iterable of images; for a single {type(images).__name__} put it in a list")
    for name, column in given.items():
        if isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
            raise ConfigError(f"{name} takes an iterable with one entry an image, not a {type(column).__name__}")
    sizes = {name: len(column) for name, column in {"images": images, **given}.items() if isinstance(column, Sized)}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ConfigError(f"images and what is given with them must be equally many, but there are {counts}")


def _make_rows(images: Iterable[ImageInput], given: Mapping[str, Iterable[Any]]) -> Iterator[_Row]:
    columns = {name: iter(column) for name, column in given.items()}
    number = 0
    for index, image in enumerate(images):
        number = index + 1
        entry: dict[str, Any] = {name: next(column, _END) for name, column in columns.items()}
        for name, value in entry.items():
            if value is _END:
                raise ConfigError(f"there are more images than {name}: {index} {name}, and an image number {number}")
        yield _Row(
            index, image, _name_row(image, entry.get("uris"), index), entry.get("captions"), entry.get("metadata")
        )
    for name, column in columns.items():
        if next(column, _END) is not _END:
            raise ConfigError(f"there are more {name} than images: {number} images, and {name} beyond")


def _name_row(image: ImageInput, given: Any, index: int) -> str:
    if isinstance(image, str) and path_of(to_uri(image)) is None:
        raise SourceError(f"image {index} ({image}): nothing is fetched from a URL; download it and pass path or bytes")
    if given is None:
        return to_uri(image if isinstance(image, str) else Path(image)) if isinstance(image, str | os.PathLike) else ""
    if isinstance(given, os.PathLike):
        return to_uri(Path(given))
    if (uri := read_uri(given)) is None:
        raise ConfigError(
            f"uri {given!r} of image {index} has no scheme that is known: begin it with urn: or, as in s3://…, with a "
            "scheme and ://, or pass a Path"
        )
    return remove_secrets(uri)


def _add_batch(writer: CollectionWriter, batch: list[_Row]) -> AddResult:
    embedder = writer.embedder
    target = find_needed_side(embedder)
    limits: Limits = getattr(embedder, "limits", DEFAULT_LIMITS)

    def load(image: ImageInput, name: str | None = None) -> LoadedImage:
        return load_image(image, target=target, limits=limits, name=name)

    rows: dict[str, _Row] = {}
    for row in (_identify(row, load) for row in batch):
        earlier = rows.get(row.uri)
        if earlier is not None:  # the last wins, as it would in the next batch: with what the first had stored
            caption = earlier.caption if row.caption is None else row.caption
            row = replace(row, caption=caption, metadata=earlier.metadata if row.metadata is None else row.metadata)
        rows[row.uri] = row
    stored = writer.read_payloads(list(rows))
    records = {uri: writer.check(_make_record(row, stored.get(uri, {}))) for uri, row in rows.items()}
    changed: list[ImageRecord] = []
    repainted: list[ImageRecord] = []
    pixels: list[np.ndarray] = []
    for uri, row in rows.items():
        record, there = records[uri], stored.get(uri)
        with _name_image(row):
            content, sha256, loaded = _read_content(row, load)
            if there is not None and has_same_bytes(there, sha256, fingerprint=embedder.fingerprint):
                whole = add_stored_image(replace(record, source=read_source(there)), there)
                if not has_same_description(whole, there):
                    changed.append(whole)
                continue
            loaded = loaded or load(content, uri)
            repainted.append(add_image(record, loaded.info, loaded.taken_at, loaded.location))
            pixels.append(embedder.preprocess(loaded.rgb))
    if repainted and changed:
        writer.prepare([*repainted, *changed])  # a value that does not fit keeps out both, not only its own half
    if repainted:
        writer.write(repainted, embedder.embed_pixels(np.stack(pixels)))
    writer.write_payloads(changed)
    added = sum(record.uri not in stored for record in repainted)
    written = len(repainted) + len(changed)
    return AddResult(added=added, updated=written - added, unchanged=len(rows) - written)


def _identify(row: _Row, load: Callable[..., LoadedImage]) -> _Row:
    """The row with a uri: that of its bytes or pixels, if it came without one. Pixels must be loaded for it."""
    if row.uri:
        return row
    with _name_image(row):
        if isinstance(row.image, bytes):
            return replace(row, uri=f"urn:sha256:{hashlib.sha256(row.image).hexdigest()}")
        loaded = load(row.image)
        return replace(row, uri=f"urn:sha256:{loaded.info.sha256}", loaded=loaded)


def _make_record(row: _Row, stored: Mapping[str, Any]) -> ImageRecord:
    """The record of a row, without what its bytes tell. What is not given stays as it is stored."""
    caption = stored.get("caption") if row.caption is None else row.caption
    metadata = read_said(stored) if row.metadata is None else row.metadata
    edits = read_edits(stored) if row.metadata is None and row.caption is None else {}
    return ImageRecord(uri=row.uri, caption=caption or None, metadata=metadata, edits=edits)


def _read_content(row: _Row, load: Callable[..., LoadedImage]) -> tuple[ImageInput, str, LoadedImage | None]:
    """The bytes of an image, the hash that `ImageInfo.sha256` has for it, and the decoded image where that took one."""
    data = read_bytes(row.image) if isinstance(row.image, str | os.PathLike) else row.image
    if isinstance(data, bytes):
        return data, hashlib.sha256(data).hexdigest(), None
    loaded = row.loaded or load(data, row.uri)
    return data, loaded.info.sha256, loaded


@contextlib.contextmanager
def _name_image(row: _Row) -> Iterator[None]:
    """Says in the error of one image which one it is."""
    try:
        yield
    except (ImageError, SourceError) as error:
        name = f"image {row.index}" + (f" ({row.uri})" if row.uri and row.uri not in str(error) else "")
        raise type(error)(f"{name}: {error}") from error
