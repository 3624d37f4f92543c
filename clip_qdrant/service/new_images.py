"""From images of a request to those of the library: decoded, uploaded or fetched, by uris that the caller may use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clip_qdrant.errors import Forbidden, QueryError, RequestTooLarge, shorten
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.service.bodies.points import NewPoint
from clip_qdrant.uris import to_uri
from clip_qdrant.url_secrets import remove_secrets

if TYPE_CHECKING:
    from clip_qdrant.service.keys.key import Tenant
    from clip_qdrant.service.state import Service

__all__ = ["NewImage", "read_new_images", "refuse_other_tenant"]

_FETCHED_AT_ONCE = 8
_WEB = ("http://", "https://")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image that is there, as ImageCollection.add takes it."""

    uri: str
    content: bytes
    caption: str | None
    metadata: Mapping[str, Any] | None


def read_new_images(
    points: Sequence[NewPoint], uploads: Sequence[bytes], service: Service, tenant: Tenant | None
) -> list[NewImage]:
    """The images of a request, those of its files that no point names at the end. It fetches and blocks.

    Raises QueryError, Forbidden, RequestTooLarge, ImageError, SourceError.
    """
    named = {point.upload for point in points}
    points = [*points, *(NewPoint(upload=place) for place in range(len(uploads)) if place not in named)]
    most = service.options.max_batch
    if not points:
        raise QueryError("there are no images: name some in points, or send files as parts `image` of a form")
    if len(points) > most:
        raise RequestTooLarge(f"the request has {len(points)} images, and {most} are the most here; send it in parts")
    for point in points:
        _check_uri(point)
        refuse_other_tenant(point.metadata, tenant)

    def read(point: NewPoint) -> NewImage:
        content = _read_content(point, uploads, service)
        uri = _name_content(content, tenant) if point.uri is None else remove_secrets(to_uri(point.uri))
        stamp = {} if tenant is None or point.metadata is None else {tenant.field: tenant.value}
        metadata = None if point.metadata is None else {**point.metadata, **stamp}
        return NewImage(uri, content, point.caption, metadata)

    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        return list(pool.map(read, points))


def refuse_other_tenant(metadata: Mapping[str, Any] | None, tenant: Tenant | None) -> None:
    """Raises Forbidden for metadata that would make an image somebody else's."""
    if tenant is None:
        return
    for name in (tenant.field, f"metadata.{tenant.field}"):
        told = (metadata or {}).get(name, tenant.value)
        if told != tenant.value:
            raise Forbidden(f"{name} is {told!r}: all that this key writes has {tenant.value!r} there; leave it out")


def _check_uri(point: NewPoint) -> None:
    if point.uri is None:
        return
    uri, is_sent = point.uri, point.image is not None or point.upload is not None
    if not is_sent and not to_uri(uri).startswith(_WEB):
        raise QueryError(
            f"nothing is fetched from {shorten(uri, _SHOWN)!r}, but from http:// and https://: send the image itself, "
            "as image or upload; what lies with the service is taken in by /v1/ingest"
        )
    if is_sent and to_uri(uri).startswith("file:"):
        raise Forbidden(f"{shorten(uri, _SHOWN)!r} would name a file of the service: give another uri, such as urn:…")


def _read_content(point: NewPoint, uploads: Sequence[bytes], service: Service) -> bytes:
    limits = service.options.limits
    if point.image is not None:
        return decode_inline_image(point.image, limits=limits)
    if point.upload is not None:
        if point.upload >= len(uploads):
            raise QueryError(
                f"there is no upload {point.upload}: the request has {len(uploads)} files, counted from 0; send them "
                "as parts `image` of a form (multipart/form-data)"
            )
        return uploads[point.upload]
    assert point.uri is not None, "a point is of one kind"
    return service.fetcher.fetch(point.uri, limits=limits)


def _name_content(content: bytes, tenant: Tenant | None) -> str:
    """The uri of bytes that came without one, as the library has it; two tenants may have the same bytes."""
    uri = f"urn:sha256:{hashlib.sha256(content).hexdigest()}"
    return uri if tenant is None else f"{uri}:{quote(tenant.value, safe='')}"
