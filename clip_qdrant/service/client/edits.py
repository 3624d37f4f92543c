"""The calls of a client that add images, change and delete them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.add import AddResult
from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.options import list_of
from clip_qdrant.collection.points import batches, id_of
from clip_qdrant.errors import ConfigError, QueryError
from clip_qdrant.images.load import is_one_image
from clip_qdrant.service.client.calls import Calls, without_none
from clip_qdrant.service.client.encode import encode_image, encode_metadata
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from clip_qdrant.filters.build import Where
    from clip_qdrant.images.load import ImageInput

__all__ = ["EditCalls"]

_WEB = ("http://", "https://")
_END = object()


class EditCalls(Calls):
    """What changes the collection."""

    def add(
        self,
        images: Iterable[ImageInput],
        *,
        uris: Iterable[str | None] | None = None,
        captions: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        batch_size: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> AddResult:
        """As `ImageCollection.add`, `batch_size` images in a request, which stores all of them or none.

        Files of this computer are sent; without a uri each is known by the hash of its bytes, since what lies here is
        nothing that the service could look at. An address of the web is fetched by the service.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
        total = AddResult()
        if is_one_image(images):
            raise ConfigError(
                f"add() takes an iterable of images; for a single {type(images).__name__} put it in a list"
            )
        for batch in batches(_make_points(images, uris=uris, captions=captions, metadata=metadata), batch_size):
            body = without_none({"collection": self.name, "points": batch})
            done = self._transport.send("POST", "/v1/points", json=body)
            total = AddResult(
                total.added + done["added"], total.updated + done["updated"], total.unchanged + done["unchanged"]
            )
            if progress is not None:
                progress(len(batch))
        return total

    def update_metadata(
        self,
        changes: Mapping[str, Any],
        *,
        uris: Iterable[str | os.PathLike[str]] | None = None,
        where: Where | None = None,
    ) -> int:
        """As `ImageCollection.update_metadata`."""
        if uris is None and where is None:
            raise QueryError('update_metadata() needs uris or where; where="" means all images')
        ids = _list_names(uris)
        if ids == []:
            return 0
        asked = {"changes": encode_metadata(changes), "ids": ids}
        changed: int = self._ask("/v1/points/metadata", asked, where=where)["changed"]
        return changed

    def delete(self, *, uris: Iterable[str | os.PathLike[str]] | None = None, where: Where | None = None) -> int:
        """As `ImageCollection.delete`."""
        if uris is None and where is None:
            raise QueryError("delete() needs uris or where")
        ids = _list_names(uris)
        if ids == []:
            return 0
        deleted: int = self._ask("/v1/points/delete", {"ids": ids}, where=where)["deleted"]
        return deleted

    # The same for async code, each in a thread of asyncio's pool.
    aadd = run_in_thread(add)
    aupdate_metadata = run_in_thread(update_metadata)
    adelete = run_in_thread(delete)


def _make_points(
    images: Iterable[ImageInput],
    *,
    uris: Iterable[str | None] | None,
    captions: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
) -> Iterator[dict[str, Any]]:
    """The JSON of each image, one after the other. Raises ConfigError where there are not equally many of all."""
    columns = {"uris": uris, "captions": captions, "metadata": metadata}
    given = {name: iter(list_of(name, column)) for name, column in columns.items() if column is not None}
    number = 0
    for number, image in enumerate(images, start=1):
        row = {name: next(column, _END) for name, column in given.items()}
        for name, value in row.items():
            if value is _END:
                raise ConfigError(f"there are more images than {name}: {number - 1} {name}, and an image more")
        yield _make_point(image, row.get("uris"), row.get("captions"), row.get("metadata"))
    for name, column in given.items():
        if next(column, _END) is not _END:
            raise ConfigError(f"there are more {name} than images: {number} images, and {name} beyond")


def _make_point(image: ImageInput, uri: Any, caption: Any, metadata: Any) -> dict[str, Any]:
    told = {"caption": caption, "metadata": None if metadata is None else encode_metadata(metadata)}
    if isinstance(image, str) and image.lower().startswith(_WEB):
        if uri not in (None, image):
            raise ConfigError(f"the image at {mask_secrets(image)} is known by its address, and has no other uri")
        return without_none({"uri": image, **told})
    return without_none({"image": encode_image(image), "uri": uri, **told})


def _list_names(uris: Iterable[str | os.PathLike[str]] | None) -> list[str] | None:
    """The ids of the points of some images."""
    return None if uris is None else [id_of(uri) for uri in list_of("uris", uris)]
