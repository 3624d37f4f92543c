"""Thumbnails for pages: small JPEGs made here, as data: uris, so that no image is embedded as it came."""

from __future__ import annotations

import base64
import io

from clip_qdrant.errors import ImageError, SourceError
from clip_qdrant.images.load import ImageInput, load_image

__all__ = ["PREVIEW_SIDE", "make_thumbnail", "picture_html"]

PREVIEW_SIDE = 480  # pixels: sharp at the 240 CSS pixels of a card on a screen of double density
_JPEG_QUALITY = 80


def make_thumbnail(image: ImageInput, *, side: int) -> str | None:
    """The data: uri of a JPEG of at most `side` x `side` pixels; None for an image that is gone or damaged."""
    try:
        rgb = load_image(image, target=side // 2).rgb.copy()
    except (ImageError, SourceError):
        return None
    rgb.thumbnail((side, side))
    jpeg = io.BytesIO()
    rgb.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")


def picture_html(thumbnail: str | None, alt: str) -> str:
    """A thumbnail in a page, or the words that stand in its place. `alt` is escaped already."""
    if thumbnail is None:
        return "<span>no preview</span>"
    return f'<img src="{thumbnail}" alt="{alt}" title="{alt}">'
