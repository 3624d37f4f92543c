"""PNG, of which only the chunks that make the picture reach the decoder of Pillow.

Of the others (profiles, texts, EXIF, animation) Pillow refuses the whole file if one is damaged, unpacks to more than
1 MB, or is out of order. Here they are read on their own, and what is odd is left out.
Source: W3C PNG (Third Edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, cast

from PIL import ImageFile
from PIL.PngImagePlugin import PngImageFile

from clip_qdrant.errors import TruncatedImage, UnsupportedImage
from clip_qdrant.images.formats.parts import PartsFile

__all__ = ["open_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}
_MOST_UNPACKED = 4 << 20  # bytes of one profile or text
_MOST_TEXT = 16 << 20  # bytes of all
_MOST_TEXTS = 1000
_NOT_TEXTS = frozenset({"icc_profile", "exif", "xmp", "transparency", "interlace"})  # what Pillow keeps beside texts
# Rows and columns of the seven passes of an interlaced picture: first and step of each.
_PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
_INK = (1, 254, 3, 253)  # stands where nothing was painted; hardly in a picture
_BLOCK = 1 << 16


def open_png(data: bytes) -> ImageFile.ImageFile:
    """An image whose pixels are not read yet. Raises TruncatedImage, UnsupportedImage, and whatever Pillow raises."""
    picture: list[bytes | memoryview] = []
    pixels: list[memoryview] = []
    info: dict[str, Any] = {}
    texts = _Texts()
    header = transparency = b""
    for kind, body in _read_chunks(data):
        if kind == b"CgBI":
            raise UnsupportedImage(
                "a PNG changed by Apple's development tools is not supported; convert it to a plain PNG"
            )
        if kind == b"IDAT":
            pixels.append(body)
        elif kind == b"IHDR" and not header:
            header = bytes(body[:13])
            picture.append(_chunk(kind, body))
        elif kind == b"PLTE":
            picture.append(_chunk(kind, body))
        elif kind == b"tRNS":
            transparency = bytes(body[:256])
        elif kind == b"iCCP":
            profile = _unpack(bytes(body).partition(b"\0")[2][1:])
            if profile:
                info["icc_profile"] = profile
        elif kind == b"eXIf":
            info["exif"] = b"Exif\0\0" + bytes(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            texts.add(kind, bytes(body))
    if len(header) < 13 or not pixels:
        raise TruncatedImage("the PNG ends before its pixels")
    depth, colours = header[8:10]
    if transparency and colours == _PALETTE:
        picture.append(_chunk(b"tRNS", transparency))
    size = sum(map(len, pixels))
    packed: list[bytes | memoryview] = [struct.pack(">L4s", size, b"IDAT"), *pixels, bytes(4), _chunk(b"IEND", b"")]
    image = _Png(cast("Any", PartsFile([_SIGNATURE, *picture, *packed])))
    image.pixels = pixels
    image.info.update({**texts.found, **info})
    if len(transparency) >= 2 * _CHANNELS[colours] and colours in (_GREY, _RGB):
        image.info["transparency"] = _scale_colour(transparency, depth, colours)
    return image


class _Png(PngImageFile):
    """Pillow's decoder, but for a stream of pixels that ends early as if it were whole."""

    pixels: list[memoryview]

    def load_prepare(self) -> None:
        super().load_prepare()
        self._last = _find_last(self.size, bool(self.info.get("interlace")))
        bands = len(self.getbands())
        self._ink = 0 if self.mode == "1" else _INK[0] if bands == 1 else _INK[:bands]
        x, y = self._last
        self.im.paste(self._ink, (x, y, x + 1, y + 1))
        self._ink = self.im.getpixel(self._last)

    def load_end(self) -> None:
        super().load_end()
        assert self._im is not None
        if self._im.getpixel(self._last) == self._ink:
            expected = _count_bytes(self.size, *self._depth_and_channels(), bool(self.info.get("interlace")))
            if _count_unpacked(self.pixels, expected) < expected:
                raise TruncatedImage("its pixels end before the last row")

    def _depth_and_channels(self) -> tuple[int, int]:
        fp = cast("Any", self.fp)
        fp.seek(len(_SIGNATURE) + 16)
        depth, colours = fp.read(2)
        return depth, _CHANNELS[colours]


class _Texts:
    """Keywords to texts, as Pillow gives them: what is said in latin-1 and UTF-8, and the packet of XMP in bytes."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._size = 0

    def add(self, kind: bytes, body: bytes) -> None:
        keyword, _, rest = body.partition(b"\0")
        name = keyword.decode("latin-1")
        packed, encoding = kind == b"zTXt", "latin-1"
        if kind == b"zTXt":
            rest = rest[1:]
        elif kind == b"iTXt":
            packed, encoding = rest[:1] == b"\1", "utf-8"
            rest = rest[2:].split(b"\0", 2)[-1]
        text = _unpack(rest) if packed else rest
        self._size += len(text)
        if name in _NOT_TEXTS or len(self.found) >= _MOST_TEXTS or self._size > _MOST_TEXT:
            return
        self.found[name] = text.decode(encoding, "replace")
        if name == "XML:com.adobe.xmp":
            self.found["xmp"] = text


def _read_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of each chunk up to the end; without those beside the picture that are damaged or cut off."""
    view = memoryview(data)
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        body = view[at + 8 : at + 8 + length]
        end = at + 12 + length
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            yield kind, body
        elif not kind[0] & 32 or (end <= len(data) and zlib.crc32(body, zlib.crc32(kind)) == _read_crc(data, end)):
            yield kind, body  # of a damaged chunk of the picture Pillow tells
        at = end


def _read_crc(data: bytes, end: int) -> int:
    return int.from_bytes(data[end - 4 : end], "big")


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">L4s", len(body), kind) + body + struct.pack(">L", zlib.crc32(body, zlib.crc32(kind)))


def _unpack(packed: bytes) -> bytes:
    """What was packed, b"" if it is damaged or large."""
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(packed, _MOST_UNPACKED)
    except zlib.error:
        return b""
    return b"" if decoder.unconsumed_tail else content


def _scale_colour(transparency: bytes, depth: int, colours: int) -> int | tuple[int, ...]:
    """The colour that is transparent, in the values that the pixels have when Pillow has read them."""
    numbers: tuple[int, ...] = struct.unpack_from(f">{_CHANNELS[colours]}H", transparency)
    values = [number & ((1 << depth) - 1) for number in numbers]
    if colours == _GREY:
        return values[0] if depth == 16 else values[0] * 255 // ((1 << depth) - 1)
    # Of 16 bits Pillow keeps the upper 8, so colours that differ in the lower ones go to white too.
    return tuple(value >> (depth - 8) for value in values)


def _find_last(size: tuple[int, int], interlaced: bool) -> tuple[int, int]:
    """Column and row of the pixel that is painted last."""
    width, height = size
    if not interlaced:
        return width - 1, height - 1
    if height > 1:
        return width - 1, (height - 2) | 1 if height % 2 == 0 else height - 2
    return (width - 1 if width % 2 == 0 else max(0, width - 2)), 0


def _count_bytes(size: tuple[int, int], depth: int, channels: int, interlaced: bool) -> int:
    """Bytes of all rows, each with the number of its filter in front."""
    width, height = size
    total = 0
    for top, row_step, left, column_step in _PASSES if interlaced else ((0, 1, 0, 1),):
        columns, rows = -(-(width - left) // column_step), -(-(height - top) // row_step)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * channels * depth // 8))
    return total


def _count_unpacked(pixels: list[memoryview], enough: int) -> int:
    decoder = zlib.decompressobj()
    total = 0
    try:
        for piece in pixels:
            for at in range(0, len(piece), _BLOCK):
                rest: Any = piece[at : at + _BLOCK]
                while rest:
                    total += len(decoder.decompress(rest, _BLOCK))
                    rest = decoder.unconsumed_tail
                if total >= enough or decoder.eof:
                    return total
    except zlib.error:  # Pillow has told, or would have
        pass
    return total
