"""Photoshop's image resources, among which JPEG, TIFF and PNG keep IPTC.

Source: Adobe Photoshop File Formats Specification, "Image Resource Blocks".
"""

from __future__ import annotations

import struct

__all__ = ["find_iptc"]

_IPTC = 0x0404
_KINDS = (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa")


def find_iptc(resources: bytes) -> bytes:
    """The IPTC block in image resources, b"" where there is none."""
    at = 0
    while at + 12 <= len(resources) and resources[at : at + 4] in _KINDS:
        (number,) = struct.unpack_from(">H", resources, at + 4)
        at += 6 + (resources[at + 6] + 2) // 2 * 2  # the name with its length, padded
        if at + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">L", resources, at)
        at += 4
        if number == _IPTC:
            return resources[at : at + size]
        at += size + size % 2
    return b""
