"""TIFF: the page that is the picture, with what makes the picture and nothing else, reaches the decoder of Pillow.

A directory of our own stands for that of the file: so BigTIFF is read, a reduced copy is not taken for the picture,
samples of 10, 12 or 14 bits are, and no odd tag makes Pillow warn. Missing strips, which Pillow leaves black, are told.
Source: TIFF 6.0.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from PIL.TiffImagePlugin import COMPRESSION_INFO, TiffImageFile

from clip_qdrant.errors import TruncatedImage, UnsupportedImage
from clip_qdrant.images.formats import libtiff
from clip_qdrant.images.formats.packed_samples import PackedSamples, find_packed
from clip_qdrant.images.formats.parts import PartsFile
from clip_qdrant.images.formats.tiff_directory import (
    LONG,
    SHORT,
    Directory,
    Field,
    make_field,
    read_directories,
    read_directory,
    read_header,
    write_directory,
)

__all__ = ["TiffPicture", "open_tiff"]

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
_OFFSETS = (_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS)
_NEW_SUBFILE, _SUBFILE, _ORIENTATION = 254, 255, 274
_XMP, _PROFILE, _EXIF, _GPS = 700, 34675, 0x8769, 0x8825
_WHOLE_NUMBERS = frozenset({
    _WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR,
    _TILE_WIDTH, _TILE_LENGTH,
})  # fmt: skip
_LISTS = frozenset({_BITS, _EXTRA, _SAMPLE_FORMAT, 320, 530})  # 320: the palette, 530: subsampling
_AS_THEY_ARE = frozenset({
    292, 293, 332, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 531, 532,  # of fax, JPEG, YCbCr, CMYK
})  # fmt: skip
_METADATA = (_XMP, 33723, 34377)  # XMP, IPTC, Photoshop
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_PICTURES = frozenset({0, 1, 2, 3, 5, 6, 8})  # grey (0: white is zero), RGB, palette, CMYK, YCbCr, Lab
_RAW, _OLD_JPEG = 1, 6
_MOST_SAMPLES = 6  # of a pixel; of more Pillow logs an error
_MOST_EXIF = 1 << 16  # bytes of one tag
_COMPRESSIONS = {
    33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG", 34712: "JPEG 2000", 34713: "raw data of a camera",
    34887: "LERC", 34892: "lossy JPEG of DNG", 50002: "JPEG XL", 52546: "JPEG XL", 65000: "raw data of a camera",
}  # fmt: skip


def open_tiff(data: bytes) -> TiffPicture:
    """An image whose pixels are not read yet. Raises TruncatedImage, UnsupportedImage, and whatever Pillow raises."""
    header = read_header(data)
    pages = read_directories(data, header)
    first = next(pages, None)
    if first is None:
        raise TruncatedImage("the TIFF has no directory")
    page = first
    if not _is_full(first):
        decoded = [one for one in (first, *pages) if _is_picture(one)] or [first]
        page = max(decoded, key=lambda one: (_is_full(one), _area(one)))
    fields = _pick_fields(page)
    said = {**first.fields, **page.fields}
    fields |= {tag: said[tag] for tag in _METADATA if tag in said}
    packed = find_packed(page)
    if packed is not None:
        fields |= packed.fields
        fields.pop(_EXTRA, None)
    tail = b"\0" * (len(data) % 2)
    at = len(data) + len(tail)
    head = (b"II*\0" if header.order == "<" else b"MM\0*") + struct.pack(header.order + "L", at)
    file = PartsFile([head, memoryview(data)[len(head) :], tail, write_directory(header.order, fields, at)])
    image = TiffPicture(cast("Any", file))
    image.block_size = _find_block_size(page)
    image.packed = packed
    image.check = functools.partial(_check_blocks, page, len(data))
    if packed is not None:
        image._size = packed.size
    for tag, name in ((_PROFILE, "icc_profile"), (_XMP, "xmp")):
        if tag in said:
            image.info[name] = said[tag].raw
    image.info["exif"] = _write_exif(data, said)
    return image


class TiffPicture(TiffImageFile):
    """Pillow's decoder, whose pixels stay as they lie in the file: the EXIF data tells how to turn them."""

    block_size: tuple[int, int]
    packed: PackedSamples | None = None
    check: Callable[[], None]  # refuses what is not whole, before it is decoded

    @property
    def is_raw(self) -> bool:
        """Whether Pillow reads it by itself, strip by strip, and not libtiff."""
        return not self.use_load_libtiff

    @property
    def packed_bytes(self) -> int:
        """Bytes a pixel that a picture of packed samples takes, and beside it their rows, at most."""
        if self.packed is None:
            return 0
        return -(-self.packed.bits * self.packed.samples // 8) + (1 if self.packed.mode == "L" else 4)

    def load(self) -> Any:
        if self.tile:
            self.check()
        with libtiff.collect_messages() as messages:
            try:
                return super().load()
            finally:
                libtiff.check_messages(messages)

    def load_end(self) -> None:
        if self.packed is not None:
            self.im = self.packed.unpack(self.im).im
            self._mode, self._size = self.packed.mode, self.packed.size


def _is_full(page: Directory) -> bool:
    """Whether a page is a picture that does not say that it is a reduced copy of another one."""
    kind = page.integer(_NEW_SUBFILE, _REDUCED if page.integer(_SUBFILE, 1) == 2 else 0)
    return _is_picture(page) and not kind & _REDUCED


def _is_picture(page: Directory) -> bool:
    """Whether a page has pixels to be seen: no mask of another one, and no raw data of a sensor."""
    is_mask = page.integer(_NEW_SUBFILE, 0) & _MASK
    return not is_mask and page.integer(_PHOTOMETRIC, 0) in _PICTURES and _area(page) > 0


def _area(page: Directory) -> int:
    return page.integer(_WIDTH, 0) * page.integer(_LENGTH, 0)


def _pick_fields(page: Directory) -> dict[int, Field]:
    """The tags of a page that make its picture, in the types that Pillow expects."""
    if not page.is_whole or page.cut & (_WHOLE_NUMBERS | _LISTS | {*_OFFSETS}):
        raise TruncatedImage("the TIFF ends before the description of its picture")
    compression = page.integer(_COMPRESSION, 1)
    if compression not in COMPRESSION_INFO:
        name = _COMPRESSIONS.get(compression, f"of number {compression}")
        raise UnsupportedImage(f"a TIFF with the compression {name} is not supported; convert it to JPEG or PNG")
    if (samples := page.integer(_SAMPLES, 1)) > _MOST_SAMPLES:
        raise UnsupportedImage(f"a TIFF of {samples} samples a pixel is not supported; convert it to JPEG or PNG")
    fields = {tag: page.fields[tag] for tag in _AS_THEY_ARE if tag in page.fields}
    for tag in _WHOLE_NUMBERS:
        if numbers := page.integers(tag):
            fields[tag] = make_field(page.order, LONG, min(numbers[0], 0xFFFFFFFF))
    for tag in _LISTS:
        if numbers := page.integers(tag):
            fields[tag] = make_field(page.order, SHORT, *(min(number, 0xFFFF) for number in numbers))
    if not _area(page):
        raise TruncatedImage("the TIFF does not say its size")
    tiled = bool({_TILE_WIDTH, _TILE_LENGTH} & page.fields.keys())
    for tile, strip in ((_TILE_OFFSETS, _STRIP_OFFSETS), (_TILE_COUNTS, _STRIP_COUNTS)):
        numbers = _read_blocks(page, tile, strip)
        if numbers and max(numbers) <= 0xFFFFFFFF:
            fields[tile if tiled else strip] = make_field(page.order, LONG, *numbers)
    return fields


def _read_blocks(page: Directory, tile: int, strip: int) -> tuple[int, ...]:
    """The values of one of two tags that mean the same, of tiles and of strips."""
    return page.integers(tile) or page.integers(strip)


def _check_blocks(page: Directory, size: int) -> None:
    """Refuses a page with fewer strips or tiles than its size needs, or with such behind the end of the file."""
    if page.integer(_COMPRESSION, 1) == _OLD_JPEG:  # which may lie elsewhere
        return
    offsets = _read_blocks(page, _TILE_OFFSETS, _STRIP_OFFSETS)
    counts = _read_blocks(page, _TILE_COUNTS, _STRIP_COUNTS)
    width, length = _find_block_size(page)
    across, down = math.ceil(page.integer(_WIDTH, 0) / width), math.ceil(page.integer(_LENGTH, 0) / length)
    is_planar = page.integer(_PLANAR, 1) == 2
    samples = page.integer(_SAMPLES, 1)
    extra = page.integers(_EXTRA)
    planes = samples if any(extra) else samples - len(extra)  # what means nothing is not looked at
    needed = across * down * (planes if is_planar else 1)
    if len(offsets) < needed:
        raise TruncatedImage(f"the TIFF has {len(offsets)} of the {needed} strips or tiles that its size needs")
    is_raw = page.integer(_COMPRESSION, 1) == _RAW
    row = math.ceil(width * page.integer(_BITS, 1) * (1 if is_planar else samples) / 8)
    for number, (start, count) in enumerate(itertools.zip_longest(offsets[:needed], counts[:needed], fillvalue=0)):
        rows = min(length, page.integer(_LENGTH, 0) - number // across % down * length)
        if not 0 < start <= size - (row * rows if is_raw else count):
            raise TruncatedImage(f"strip or tile {number} of the TIFF does not lie in the file")


def _find_block_size(page: Directory) -> tuple[int, int]:
    """Width and height in pixels of the tiles or strips, decoded whole: a tile may be larger than the image."""
    width, length = page.integer(_WIDTH, 0), page.integer(_LENGTH, 0)
    if not {_TILE_WIDTH, _TILE_LENGTH} & page.fields.keys():
        rows = page.integer(_ROWS_PER_STRIP, length)
        return width, rows if 0 < rows < length else length
    tile_width, tile_length = page.integer(_TILE_WIDTH, 0), page.integer(_TILE_LENGTH, 0)
    if not (tile_width > 0 and tile_length > 0):
        raise UnsupportedImage("the size of its tiles is not supported: it is not two whole numbers")
    return tile_width, tile_length


def _write_exif(data: bytes, fields: Mapping[int, Field]) -> bytes:
    """What the tags say beside the picture, as a block of EXIF data."""
    header = read_header(data)
    block = (b"II*\0" if header.order == "<" else b"MM\0*") + struct.pack(header.order + "L", 8)
    main = _pick_exif(fields)
    groups = {}
    for pointer in (_EXIF, _GPS):
        if offsets := Directory(header.order, fields).integers(pointer):
            groups[pointer] = _pick_exif(read_directory(data, header, offsets[0])[0].fields)
            main[pointer] = make_field(header.order, LONG, 0)
    at = 8 + len(write_directory(header.order, main, 8))
    behind = b""
    for pointer, group in groups.items():
        main[pointer] = make_field(header.order, LONG, at + len(behind))
        behind += write_directory(header.order, group, at + len(behind))
    return b"Exif\0\0" + block + write_directory(header.order, main, 8) + behind


def _pick_exif(fields: Mapping[int, Field]) -> dict[int, Field]:
    makes_picture = _WHOLE_NUMBERS | _LISTS | _AS_THEY_ARE | {*_OFFSETS, *_METADATA, _PROFILE}
    return {
        tag: field
        for tag, field in fields.items()
        if tag not in makes_picture and field.kind <= 13 and len(field.raw) <= _MOST_EXIF
    }
