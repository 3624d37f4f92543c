"""EXIF and XMP in the chunks of a WebP, also where its header does not announce them, as its decoder asks for.

Source: WebP Container Specification.
"""

from __future__ import annotations

import struct

__all__ = ["find_chunks"]

_MOST_CHUNKS = 100_000  # an animation has one a frame


def find_chunks(data: bytes) -> tuple[bytes | None, list[bytes]]:
    """EXIF, None if there is none, and the packets of XMP."""
    exif: bytes | None = None
    packets = []
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sL", data, at)
        content = data[at + 8 : at + 8 + size] if kind in (b"EXIF", b"XMP ", b"XMP\0") else b""
        if content and kind == b"EXIF":
            exif = exif or content
        elif content:
            packets.append(content)
        at += 8 + size + size % 2
    return exif, packets
