"""JPEG 2000: samples scaled by their own range, and palettes applied here.

Pillow shifts samples up to 8 or 16 bits, by which 15 of 15 becomes 240 of 255; and it merges the colours of a palette
that are there twice, by which later ones get other numbers. Source: ITU-T T.800, A.5.1 (SIZ) and I.5.3 (boxes).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import Any, cast

from PIL import Image, ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from clip_qdrant.errors import UnsupportedImage
from clip_qdrant.images.formats.parts import PartsFile
from clip_qdrant.images.formats.white import set_white

__all__ = ["Jpeg2000Picture", "open_jpeg2000"]

_CODESTREAM = b"\xff\x4f\xff\x51"
_CMYK = 12  # of enumerated colour spaces
_CONVERTED = (_CMYK, 18)  # the latter is YCbCr
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def open_jpeg2000(data: bytes) -> ImageFile.ImageFile:
    """An image whose pixels are not read yet. Raises UnsupportedImage, and whatever Pillow raises."""
    bits = _read_bits(data)
    if len(bits) > max(_MODES):
        raise UnsupportedImage(f"JPEG 2000 of {len(bits)} components is not supported; convert it to JPEG or PNG")
    boxes = dict(_read_header_boxes(data))
    if b"pclr" in boxes:
        if len(bits) != 1 or bits[0] > 8:
            raise UnsupportedImage(f"a palette for {len(bits)} components of {bits} bits is not supported")
        image = _open_codestream(data)
        image.lookup = _read_palette(boxes[b"pclr"], boxes.get(b"cmap", b""), bits[0])
        is_cmyk = len(image.lookup) == 4 and _read_colour_space(boxes.get(b"colr", b"")) == _CMYK
        image.colours = "CMYK" if is_cmyk else _MODES[len(image.lookup)]
        return image
    if _read_colour_space(boxes.get(b"colr", b"")) in _CONVERTED:
        image = Jpeg2000Picture(io.BytesIO(data))
    else:
        image = _open_codestream(data)
    if image.mode.startswith("I;16"):
        set_white(image, ((1 << bits[0]) - 1) << (16 - bits[0]))
    elif any(depth < 8 for depth in bits):
        image.bits = bits
    return image


def _open_codestream(data: bytes) -> Jpeg2000Picture:
    """The image without the boxes around it, whose colour spaces Pillow holds against the number of components."""
    return Jpeg2000Picture(cast("Any", PartsFile([memoryview(data)[max(0, data.find(_CODESTREAM)) :]])))


class Jpeg2000Picture(Jpeg2KImageFile):
    """Pillow's decoder, for samples of less than 8 bits and for palettes."""

    bits: tuple[int, ...] = ()
    lookup: Sequence[Sequence[int]] = ()  # of each channel, by what Pillow makes of the index
    colours = ""  # the mode in which the palette is

    def load_end(self) -> None:
        super().load_end()
        if self.lookup:
            self.im = Image.merge(self.colours, [self.point(table) for table in self.lookup]).im
            self._mode = self.colours
        elif self.bits:
            scales = [255 / (((1 << bits) - 1) << (8 - bits)) if bits < 8 else 1 for bits in self.bits]
            self.im = self.im.point([min(255, round(v * scale)) for scale in scales for v in range(256)], None)


def _read_palette(palette: bytes, mapping: bytes, index_bits: int) -> list[list[int]]:
    """For each channel the 8-bit values of what Pillow makes of an index, which it shifts up to 8 bits."""
    count, columns = struct.unpack_from(">HB", palette)
    depths = [(depth & 0x7F) + 1 for depth in palette[3 : 3 + columns]]
    entry = struct.Struct(">" + "".join("B" if depth <= 8 else "H" for depth in depths))
    if not 1 <= columns <= 4 or max(depths) > 16 or len(palette) < 3 + columns + count * entry.size:
        raise UnsupportedImage(f"a palette of {count} colours in {columns} columns of {depths} bits is not supported")
    rows = list(entry.iter_unpack(palette[3 + columns : 3 + columns + count * entry.size]))
    channels = [mapping[at + 3] if mapping[at + 2] else None for at in range(0, len(mapping) - 3, 4)] or range(columns)
    lookup = []
    for column in channels:
        if column is None or column >= columns or len(channels) > 4:
            raise UnsupportedImage("a palette beside channels without one is not supported")
        top = (1 << depths[column]) - 1
        values = [min(255, round(row[column] * 255 / top)) for row in rows] or [0]
        lookup.append([values[min(shifted >> (8 - index_bits), len(values) - 1)] for shifted in range(256)])
    return lookup


def _read_bits(data: bytes) -> tuple[int, ...]:
    """Bits a sample of each component."""
    at = data.find(_CODESTREAM)
    if at < 0:
        return ()
    (components,) = struct.unpack_from(">H", data, at + 40)
    return tuple((data[at + 42 + 3 * number] & 0x7F) + 1 for number in range(components))


def _read_colour_space(colour: bytes) -> int:
    return int.from_bytes(colour[3:7], "big") if colour[:1] == b"\1" else 0


def _read_header_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the boxes in the header box of a JP2 file."""
    for name, content in _read_boxes(memoryview(data)[: max(0, data.find(_CODESTREAM))]):
        if name == b"jp2h":
            yield from ((inner, bytes(body)) for inner, body in _read_boxes(content))


def _read_boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">L4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = at + size if size else len(data)
        if end < at + head:
            return
        yield name, data[at + head : end]
        at = end
