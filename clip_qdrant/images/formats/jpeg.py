"""JPEG: what ends early is refused, for libjpeg paints grey what it has no data for, and says nothing."""

from __future__ import annotations

import hashlib
import io
import math
import re
from typing import Any, cast

from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from clip_qdrant.errors import TruncatedImage, UnsupportedImage

__all__ = ["comes_in_scans", "count_coefficient_bytes", "lacks_end", "open_jpeg"]

_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # the others are no frames
_NOT_DECODED = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "of several resolutions"),
    0xCB: "without loss, in arithmetic coding",
    0xF7: "of the kind JPEG-LS",
}
_END_OF_IMAGE = b"\xff\xd9"
_ZERO_FILL = bytes(64)  # the rest of a file whose place was taken before it was written
_UNPAINTED = {127, 128}  # what zero coefficients decode to; 127 in CMYK, which is stored inverted
_MORE_DATA = bytes(range(254, 0, -1)) * 16  # begins with other bits than the zeros that a decoder makes up
_BAND_PIXELS = 1 << 18
_SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e]([\x01-\x04])")
_LONGEST_SCAN_HEADER = 16  # bytes, with its marker


def open_jpeg(data: bytes) -> ImageFile.ImageFile:
    """An image whose pixels are not read yet; also the first picture of an MPO."""
    kind = _find_frame_kind(data)
    if kind in _NOT_DECODED:
        raise UnsupportedImage(f"a JPEG {_NOT_DECODED[kind]} is not supported; convert it to JPEG or PNG")
    return _Jpeg(io.BytesIO(data))


def _find_frame_kind(data: bytes) -> int:
    """The marker of the frame, 0 if there is none where one must be."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _FRAMES:
            return kind
        at += 1 if kind == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


class _Quiet(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Not used here; Pillow does it while opening, and warns if the EXIF data is broken."""


class _Jpeg(_Quiet):
    ended = False

    def _open(self) -> None:
        super()._open()
        self.first_scan = cast("io.BytesIO", self.fp).tell()

    def load_read(self, read_bytes: int) -> bytes:
        data = cast("io.BytesIO", self.fp).read(read_bytes)
        if data or self.ended:
            return data
        self.ended = True  # once, or a decoder that waits for more than an end would never get out
        return _END_OF_IMAGE

    def load_end(self) -> None:
        data = cast("io.BytesIO", self.fp).getvalue()
        without_end = lacks_end(self)
        if without_end and data.endswith(_ZERO_FILL):
            raise TruncatedImage("the JPEG has zeros in place of its end")
        if without_end and _lacks_scans(self, data):
            raise TruncatedImage("the JPEG ends before its last scan")
        corner: Any = self.getpixel((self.width - 1, self.height - 1))
        if without_end or set(corner if isinstance(corner, tuple) else (corner,)) <= _UNPAINTED:
            _check_end(data, without_end=without_end)


def lacks_end(image: ImageFile.ImageFile) -> bool:
    """Whether the file of an open JPEG has no end marker behind the header of its first scan."""
    assert isinstance(image, _Jpeg)
    return cast("io.BytesIO", image.fp).getvalue().find(_END_OF_IMAGE, image.first_scan) < 0


def _lacks_scans(image: _Jpeg, data: bytes) -> bool:
    """Whether the scans leave out a component, or bits of a coefficient (ITU-T T.81, B.2.3 and G.1.1.1)."""
    components = [component for component, *_ in image.layer]
    left = {(component, number): 1 for component in components for number in range(64)}  # bits that are to come
    for marker in _SCAN.finditer(data, max(0, image.first_scan - _LONGEST_SCAN_HEADER)):
        (count,) = marker[1]
        header = data[marker.end() : marker.end() + 2 * count + 3]
        if len(header) == 2 * count + 3:
            first, last, bits = header[-3:] if image.info.get("progressive") else (0, 63, 0)
            of = header[: 2 * count : 2]
            left.update({(component, number): bits & 15 for component in of for number in range(first, last + 1)})
    return any(left[component, number] for component in components for number in range(64))


def _check_end(data: bytes, *, without_end: bool) -> None:
    """Refuses a JPEG that ends before its last pixel: with more data at its end the picture differs.

    Behind the last pixel a decoder passes over such data.
    """
    end = len(data) if without_end else data.rfind(_END_OF_IMAGE)
    if end < 0:
        return
    # An end before its time leaves at least whole blocks grey, which an eighth of the size shows.
    scale = 1 if without_end else 8
    body, rest = data[:end].rstrip(b"\xff"), data[end:] or _END_OF_IMAGE  # FF would make a marker of what follows
    if _hash_pixels(body + rest, scale) != _hash_pixels(body + _MORE_DATA + rest, scale):
        raise TruncatedImage("the JPEG ends before its last pixel")


def _hash_pixels(data: bytes, scale: int) -> bytes:
    """A digest of the pixels of a JPEG; at an eighth of its size one of 100 megapixels takes 6 MB."""
    image = _Quiet(io.BytesIO(data))
    if scale > 1:
        image.draft(image.mode, (1, 1))
    digest = hashlib.blake2b()
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.digest()


def comes_in_scans(image: ImageFile.ImageFile) -> bool:
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


def count_coefficient_bytes(image: ImageFile.ImageFile, size: tuple[int, int]) -> int:
    """The DCT coefficients of a whole JPEG, 2 bytes each, in blocks of 8 x 8 pixels (ITU-T T.81, A.1)."""
    sampling: list[tuple[int, int]] = [(across, down) for _, across, down, _ in image.layer]  # type: ignore[attr-defined]  # of a JPEG
    units_across = math.ceil(size[0] / (8 * max(across for across, _ in sampling)))
    units_down = math.ceil(size[1] / (8 * max(down for _, down in sampling)))
    return 2 * 64 * units_across * units_down * sum(across * down for across, down in sampling)
