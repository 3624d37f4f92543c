"""The Pillow decoder for a format, and what is known of an image before its pixels are decoded.

Only formats of this table reach a decoder: Pillow's own search would also try those that start a program (EPS) or
fetch nothing but trouble. Opening a decoder directly, and not by `Image.open`, leaves the limit on pixels to us:
`Image.open` measures against a process-wide setting and warns.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import struct
from collections.abc import Callable
from typing import cast

from PIL import Image, ImageFile

from clip_qdrant.errors import TruncatedImage, UnsupportedImage

__all__ = ["count_decoding_bytes", "open_decoder", "read_gif_frame_size", "read_tiff_block_size"]

_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),  # also the first picture of an MPO
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "JPEG2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]


def open_decoder(image_format: str, data: bytes, name: str) -> ImageFile.ImageFile:
    """A lazy Pillow image of `data`: the header is read, the pixels are not. Whatever Pillow raises passes through."""
    opener = _opener(image_format)
    if opener is None:
        way_out = "upgrade Pillow"
        if image_format == "HEIC":
            way_out = "pip install pillow-heif and call pillow_heif.register_heif_opener()"
        raise UnsupportedImage(f"{name} is in {image_format} format, for which there is no decoder here; {way_out}")
    return opener(io.BytesIO(data))


@functools.lru_cache(maxsize=32)
def _plugin(image_format: str) -> Opener | None:
    module_name, class_name = _PLUGINS[image_format]
    try:
        module = importlib.import_module(f"PIL.{module_name}")
    except ModuleNotFoundError:  # AVIF came with Pillow 11.3
        return None
    if not getattr(module, "SUPPORTED", True):
        return None
    decoder: type[ImageFile.ImageFile] = getattr(module, class_name)
    return _strict_jpeg(decoder) if image_format == "JPEG" else decoder


def _strict_jpeg(base: type[ImageFile.ImageFile]) -> type[ImageFile.ImageFile]:
    """Pillow's JPEG decoder, but for what ends early: libjpeg paints grey what it has no data for, and says nothing."""

    class JpegImageFile(base):  # type: ignore[valid-type, misc]  # the base is known when Pillow is loaded
        def _open(self) -> None:
            super()._open()
            self._first_scan = self.fp.tell()

        def _read_dpi_from_exif(self) -> None:
            """Not used here; Pillow does it while opening, and warns if the EXIF data is broken."""

        def load_read(self, size: int) -> bytes:
            # Another library may have set ImageFile.LOAD_TRUNCATED_IMAGES; then Pillow makes up an end here.
            data: bytes = self.fp.read(size)
            if not data:
                raise TruncatedImage("the JPEG ends before its last pixel")
            return data

        def load_end(self) -> None:
            data = self.fp.getvalue()
            if data.endswith(_ZERO_FILL) and data.find(_END_OF_IMAGE, self._first_scan) < 0:
                raise TruncatedImage("the JPEG has zeros in place of its end")
            corner = self.getpixel((self.width - 1, self.height - 1))
            if set(corner if isinstance(corner, tuple) else (corner,)) <= _UNPAINTED:
                _check_end(base, data)

    return JpegImageFile


_END_OF_IMAGE = b"\xff\xd9"
_ZERO_FILL = bytes(64)  # the rest of a file whose place was taken before it was written
_UNPAINTED = {127, 128}  # what zero coefficients decode to; 127 in CMYK, which is stored inverted
_MORE_DATA = bytes(range(1, 255)) * 16


def _check_end(decoder: type[ImageFile.ImageFile], data: bytes) -> None:
    """Refuses a JPEG that has its end marker before its last pixel: with more data in front of it the picture differs.

    Behind the last pixel a decoder passes over such data.
    """
    end = data.rfind(_END_OF_IMAGE)
    if end < 0:
        return
    if _decode_small(decoder, data) != _decode_small(decoder, data[:end] + _MORE_DATA + data[end:]):
        raise TruncatedImage("the JPEG has its end marker before its last pixel")


def _decode_small(decoder: type[ImageFile.ImageFile], data: bytes) -> bytes:
    """The pixels of a JPEG at an eighth of its size, where one of 100 megapixels takes 6 MB."""
    image = decoder(io.BytesIO(data))
    image.draft(image.mode, (1, 1))
    return image.tobytes()


def _opener(image_format: str) -> Opener | None:
    if image_format in _PLUGINS:
        return _plugin(image_format)
    registered = Image.OPEN.get("HEIF")  # not cached: the user may register it at any time
    return (lambda file: registered[0](file, "")) if registered else None


def count_decoding_bytes(image: ImageFile.ImageFile, image_format: str, size: tuple[int, int]) -> int:
    """Bytes of memory that the pixels of an image, open and not decoded yet, take while they are decoded, at most.

    `size` in pixels is that in the file, where `draft` has changed that of the image.
    """
    width, height = image.size
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if image_format == "JPEG" and _comes_in_scans(image):
        return width * height * stored + _count_coefficient_bytes(image, size)
    if image_format == "TIFF":
        return width * height * stored + 8 * math.prod(read_tiff_block_size(image))
    beside = 6 * len(image.getbands()) if image_format == "JPEG2000" else _BESIDE_IMAGE.get(image_format, 0)
    return width * height * (stored + beside)


# Bytes a pixel that a decoder holds beside the image of Pillow (canvases, planes), at most; measured with 13.0.
_BESIDE_IMAGE = {"WEBP": 12, "AVIF": 12, "HEIC": 12, "HEIF": 12, "GIF": 4, "BMP": 2, "PPM": 4}
_WIDTH, _LENGTH, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 278, 322, 323


def read_tiff_block_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height in pixels of the tiles or strips of a TIFF, decoded whole: a tile may be larger than the image.

    Raises UnsupportedImage where they stand in a type of number that libtiff reads and Pillow does not.
    """
    directory = image.tag_v2  # type: ignore[attr-defined]  # of a TIFF
    width, height = directory[_WIDTH], directory[_LENGTH]  # `image.size` may be turned already
    if not {_TILE_WIDTH, _TILE_LENGTH} & _read_tiff_tags(cast("io.BytesIO", image.fp).getvalue(), directory.offset):
        rows = directory.get(_ROWS_PER_STRIP)
        return width, rows if isinstance(rows, int) and 0 < rows < height else height
    tile_width, tile_length = directory.get(_TILE_WIDTH), directory.get(_TILE_LENGTH)
    if not (isinstance(tile_width, int) and isinstance(tile_length, int) and tile_width > 0 and tile_length > 0):
        raise UnsupportedImage("the size of its tiles is not supported: it is not two whole numbers")
    return tile_width, tile_length


def _read_tiff_tags(data: bytes, offset: int) -> set[int]:
    """The tags of a directory, also those that Pillow passes over."""
    order = "<" if data.startswith(b"II") else ">"
    count, entry_size = ("Q", 20) if data[2:3] == b"+" else ("H", 12)  # of BigTIFF and TIFF
    (entries,) = struct.unpack_from(order + count, data, offset)
    first = offset + struct.calcsize(order + count)
    end = min(first + entry_size * entries, len(data) - 1)
    return {struct.unpack_from(order + "H", data, at)[0] for at in range(first, end, entry_size)}


def _comes_in_scans(image: ImageFile.ImageFile) -> bool:
    """Whether a JPEG is progressive, or its first scan lacks a component: then libjpeg holds all before it paints.

    The decoder has read up to the end of the first scan's header: a length of 2 n + 6, n, and 2 n + 3 bytes.
    """
    if image.info.get("progressive"):
        return True
    components = len(image.getbands())
    file = cast("io.BytesIO", image.fp)
    end = file.tell()
    header = file.getvalue()[max(0, end - 2 * components - 6) : end]
    return header[:3] != bytes((0, 2 * components + 6, components))


def _count_coefficient_bytes(image: ImageFile.ImageFile, size: tuple[int, int]) -> int:
    """The DCT coefficients of a whole JPEG, 2 bytes each, in blocks of 8 x 8 pixels (ITU-T T.81, A.1)."""
    sampling: list[tuple[int, int]] = [(across, down) for _, across, down, _ in image.layer]  # type: ignore[attr-defined]  # of a JPEG
    units_across = math.ceil(size[0] / (8 * max(across for across, _ in sampling)))
    units_down = math.ceil(size[1] / (8 * max(down for _, down in sampling)))
    return 2 * 64 * units_across * units_down * sum(across * down for across, down in sampling)


def read_gif_frame_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas that the first frame of a GIF needs: a frame may be larger than the screen.

    Source: GIF89a specification. Raises TruncatedImage.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        while data[at] == 0x21:  # extensions, each a chain of sub-blocks
            at += 2
            while data[at]:
                at += 1 + data[at]
            at += 1
        if data[at] == 0x2C:
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
    except (IndexError, struct.error) as error:
        raise TruncatedImage("the GIF ends before its first frame") from error
    return width, height
