"""XMP in a GIF: an application extension whose packet is no chain of sub-blocks, ended by a ramp of all bytes.

Source: ISO 16684-3 (XMP), "Embedding in GIF"; GIF89a specification.
"""

from __future__ import annotations

__all__ = ["find_xmp"]

_EXTENSION = b"\x21\xff\x0bXMP DataXMP"
_RAMP = b"\x01\xff\xfe\xfd"  # the first of its 258 bytes: whatever of the packet is taken for a size leads into them
_LONGEST_CHAIN = 1 << 20  # bytes


def find_xmp(data: bytes) -> list[bytes]:
    """The packet of XMP in the bytes of a GIF; an empty list where there is none."""
    start = data.find(_EXTENSION)
    if start < 0:
        return []
    start += len(_EXTENSION)
    end = data.find(_RAMP, start)
    if end >= 0:
        return [data[start:end]]
    packet = bytearray()  # some programs write a chain nevertheless
    while start < len(data) and data[start] and len(packet) < _LONGEST_CHAIN:
        packet += data[start + 1 : start + 1 + data[start]]
        start += 1 + data[start]
    return [bytes(packet)]
