"""The decoder for a format, and what is known of an image before its pixels are decoded.

Only formats of this table reach a decoder: Pillow's own search would also try those that start a program (EPS) or
fetch nothing but trouble. Opening a decoder directly, and not by `Image.open`, leaves the limit on pixels to us:
`Image.open` measures against a process-wide setting and warns.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import io
import math
from collections.abc import Callable
from typing import cast

from PIL import Image, ImageFile

from clip_qdrant.errors import UnsupportedImage
from clip_qdrant.images.formats.jpeg import comes_in_scans, count_coefficient_bytes, lacks_end, open_jpeg
from clip_qdrant.images.formats.jpeg2000 import Jpeg2000Picture, open_jpeg2000
from clip_qdrant.images.formats.png import open_png
from clip_qdrant.images.formats.tiff import TiffPicture, open_tiff
from clip_qdrant.images.formats.webp import open_webp

__all__ = ["count_decoding_bytes", "describe_decoders", "open_decoder"]

Opener = Callable[[bytes], ImageFile.ImageFile]

_OPENERS: dict[str, Opener] = {
    "JPEG": open_jpeg,  # also the first picture of an MPO
    "PNG": open_png,
    "WEBP": open_webp,
    "TIFF": open_tiff,
    "JPEG2000": open_jpeg2000,
}
_PLUGINS = {
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}


def open_decoder(image_format: str, data: bytes, name: str) -> ImageFile.ImageFile:
    """A lazy Pillow image of `data`: the header is read, the pixels are not. Whatever Pillow raises passes through."""
    opener = _OPENERS.get(image_format) or _find_plugin(image_format)
    if opener is None:
        way_out = "pip install 'clip-qdrant[heic]'" if image_format == "HEIC" else "upgrade Pillow"
        raise UnsupportedImage(f"{name} is in {image_format} format, for which there is no decoder here; {way_out}")
    return opener(data)


def describe_decoders() -> list[str]:
    """What decides which formats are decoded here: versions of libraries, "" for one that is not installed."""
    from PIL import __version__ as pillow

    try:
        heif = importlib.metadata.version("pillow-heif")
    except importlib.metadata.PackageNotFoundError:
        heif = ""
    return [pillow, heif]


def _find_plugin(image_format: str) -> Opener | None:
    return _load_plugin(image_format) if image_format in _PLUGINS else _find_heif()


def _find_heif() -> Opener | None:
    """The decoder that somebody registered with Pillow, else that of the extra `heic`, which is not registered."""
    registered = Image.OPEN.get("HEIF")  # not cached: the user may register it at any time
    if registered:
        return lambda data: registered[0](io.BytesIO(data), "")
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:  # not installed, or without what it needs
        return None
    return lambda data: cast("ImageFile.ImageFile", heif.HeifImageFile(io.BytesIO(data)))


@functools.lru_cache(maxsize=32)
def _load_plugin(image_format: str) -> Opener | None:
    module_name, class_name = _PLUGINS[image_format]
    try:
        module = importlib.import_module(f"PIL.{module_name}")
    except ModuleNotFoundError:  # AVIF came with Pillow 11.3
        return None
    if not getattr(module, "SUPPORTED", True):
        return None
    decoder: type[ImageFile.ImageFile] = getattr(module, class_name)
    return lambda data: decoder(io.BytesIO(data))


# Bytes a pixel that a decoder holds beside the image of Pillow (canvases, planes), at most; measured with 13.0.
_BESIDE_IMAGE = {"WEBP": 8, "AVIF": 12, "HEIC": 12, "HEIF": 12, "GIF": 4, "BMP": 2, "PPM": 4}


def count_decoding_bytes(image: ImageFile.ImageFile, image_format: str, data: bytes, size: tuple[int, int]) -> int:
    """Bytes of memory that the pixels of an image, open and not decoded yet, take while they are decoded, at most.

    `size` in pixels is that in the file, where `draft` has changed that of the image.
    """
    width, height = image.size
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if image_format == "JPEG":
        needed = width * height * stored + (count_coefficient_bytes(image, size) if comes_in_scans(image) else 0)
        # Without an end it is decoded twice more, whole.
        return needed + (4 * size[0] * size[1] if lacks_end(image) else 0)
    if isinstance(image, TiffPicture):
        whole = 0 if image.is_raw else len(data)  # libtiff wants the file in one piece, with our directory
        return width * height * (stored + image.packed_bytes) + 8 * math.prod(image.block_size) + whole
    beside = _BESIDE_IMAGE.get(image_format, 0)
    if isinstance(image, Jpeg2000Picture):
        beside = 6 * len(image.getbands()) + 2 * len(image.colours)
    return width * height * (stored + beside)
