"""EXIF, IPTC and XMP in the boxes of a JPEG 2000 file.

Source: ISO 15444-1, annex I; the ids of the boxes: ISO 16684-3 (XMP), and those of exiv2 and Photoshop.
"""

from __future__ import annotations

import struct

__all__ = ["SIGNATURE", "find_boxes"]

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_MOST_BOXES = 10_000
_EXIF = b"JpgTiffExif->JP2"


def find_boxes(data: bytes) -> tuple[bytes | None, bytes, list[bytes]]:
    """EXIF (None if there is none), IPTC (else b"") and packets of XMP."""
    exif: bytes | None = None
    iptc = b""
    packets = []
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            break
        size, kind = struct.unpack_from(">L4s", data, at)
        header = 8
        if size == 1 and at + 16 <= len(data):
            (size,), header = struct.unpack_from(">Q", data, at + 8), 16
        end = at + size if size else len(data)  # 0: to the end of the file
        if end < at + header:
            break
        if kind == b"uuid":
            content = data[at + header + 16 : end]
            name = data[at + header : at + header + 16]
            if name == _XMP:
                packets.append(content)
            elif name == _EXIF:
                exif = exif or content
            elif name == _IPTC:
                iptc = iptc or content
        at = end
    return exif, iptc, packets
