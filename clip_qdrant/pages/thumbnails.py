"""Thumbnails: small JPEGs made here, for pages as data: uris, so that no image is shown as it came."""

from __future__ import annotations

import base64
import io

from clip_qdrant.errors import ImageError, SourceError
from clip_qdrant.images.load import DEFAULT_LIMITS, ImageInput, Limits, load_image

__all__ = ["PREVIEW_SIDE", "encode_thumbnail", "make_thumbnail", "picture_html"]

PREVIEW_SIDE = 480  # pixels: sharp at the 240 CSS pixels of a card on a screen of double density
_JPEG_QUALITY = 80


def make_thumbnail(image: ImageInput, *, side: int) -> str | None:
    """The data: uri of a JPEG of at most `side` x `side` pixels; None for an image that is gone or damaged."""
    try:
        jpeg = encode_thumbnail(image, side=side)
    except (ImageError, SourceError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def encode_thumbnail(image: ImageInput, *, side: int, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """A JPEG of at most `side` x `side` pixels, without the tags of the photo. Raises as load_image does."""
    rgb = load_image(image, target=max(1, side // 2), limits=limits).rgb.copy()
    rgb.thumbnail((side, side))
    jpeg = io.BytesIO()
    rgb.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return jpeg.getvalue()


def picture_html(thumbnail: str | None, alt: str) -> str:
    """A thumbnail in a page, or the words that stand in its place. `alt` is escaped already."""
    if thumbnail is None:
        return "<span>no preview</span>"
    return f'<img src="{thumbnail}" alt="{alt}" title="{alt}">'
