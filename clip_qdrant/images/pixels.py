"""Pixels of any mode as plain 8-bit ones: no palette, no transparency, no deep grey, colours as sRGB.

A big image is flattened and reduced band by band, so that no whole copy of it is held beside it.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from clip_qdrant.errors import UnsupportedImage
from clip_qdrant.images.formats.white import get_white

__all__ = ["flatten", "to_srgb"]

_PLAIN = ("RGB", "L", "CMYK")
_BAND_PIXELS = 1 << 18  # some 13 bytes each
_LONGEST_PROFILE = 4 << 20  # bytes; those of printing presses have 0.5 to 3 MB, and the last few are kept


def flatten(image: Image.Image, factor: int) -> Image.Image:
    """An image of any mode as L, RGB or CMYK, transparent parts laid on white, each side `factor` times shorter.

    Raises UnsupportedImage. With a factor of 1 it may be the image itself.
    """
    if image.mode in _PLAIN and "transparency" not in image.info:
        return image.reduce(factor) if factor > 1 else image
    width, height = image.size
    rows = max(1, _BAND_PIXELS // (width * factor)) * factor
    top_grey = _top_grey(image, rows)
    if rows >= height:
        return _reduce(_flatten_band(image, top_grey), factor)
    result = None
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        band = _reduce(_flatten_band(band, top_grey), factor)
        result = result or Image.new(band.mode, (band.width, -(-height // factor)))
        result.paste(band, (0, top // factor))
    assert result is not None  # there is at least one row
    return result


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    return image.reduce(factor) if factor > 1 else image


def _flatten_band(image: Image.Image, top_grey: float) -> Image.Image:
    """See `flatten`. `top_grey` is what white is in an image of 32-bit grey."""
    mode = image.mode
    transparent = "transparency" in image.info
    if mode in _PLAIN and not transparent:
        return image
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or (transparent and mode in ("P", "L", "RGB", "1")):
        rgba = image if mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    if mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        top = get_white(image)
        scaled = np.minimum((grey * 255 + top // 2) // top, 255).astype(np.uint8)
        if transparent:
            scaled[grey == image.info["transparency"]] = 255
        return Image.fromarray(scaled)
    if mode == "I":
        return Image.fromarray(((np.asarray(image) + 128) // 257).astype(np.uint8))
    if mode == "F":
        values = np.asarray(image)
        return Image.fromarray(np.rint(values * 255 if top_grey == 1 else values).astype(np.uint8))
    if mode in ("P", "RGBX", "YCbCr", "HSV"):
        return image.convert("RGB")
    if mode == "1":
        return image.convert("L")
    raise UnsupportedImage(f"pixels of mode {mode} are not decoded here; convert the image to RGB")


def _top_grey(image: Image.Image, rows: int) -> float:
    """White in 32-bit grey, whose range no standard fixes: 16-bit integers, floats of 0-1 or else of 0-255.

    0 for other modes. Raises UnsupportedImage for any other range.
    """
    if image.mode not in ("I", "F"):
        return 0
    low, high = np.inf, -np.inf
    for top in range(0, image.height, rows):
        band = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        low, high = np.minimum(low, band.min()), np.maximum(high, band.max())  # min() would pass over a NaN
    limit = 65535 if image.mode == "I" else 255
    if not (low >= 0 and high <= limit):  # so also for NaN
        raise UnsupportedImage(
            f"grey values from {low:g} to {high:g} have no agreed black and white; scale them to 0-255"
        )
    return 1 if image.mode == "F" and high <= 1 else limit


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image as its colour profile means it; as it is where the profile is broken, huge, or for other pixels."""
    from PIL import ImageCms

    if len(profile) > _LONGEST_PROFILE:
        return image

    try:
        transform = _srgb_transform(profile, image.mode)
        converted = None if transform is None else ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> Any:
    """The lcms transform from a profile to sRGB, None where it would change next to nothing."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
        return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
