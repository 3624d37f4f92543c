"""XMP and IPTC in the segments of a JPEG: several of a kind, split ones, and headers that programs have spoilt.

Source: ISO 16684-3 (XMP), "Embedding in JPEG": what does not fit into one segment of 64 KB is extended XMP.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from clip_qdrant.images.metadata.blocks.photoshop import find_iptc

__all__ = ["find_iptc_block", "find_xmp"]

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_HEADER = struct.Struct(">32sLL")  # of which packet, its bytes in all, where these begin
_BEGINNING = re.compile(rb"[\0\s\xef\xbb\xbf\xfe\xff]*<\0*(?:\?\0*x|x\0*:\0*x|r\0*d\0*f\0*:\0*R)")
_END = re.compile(rb"</x:x|</rdf:RDF|x\0?p\0?a\0?c\0?k\0?e\0?t\0? \0?e")
_NAMED = re.compile(rb"HasExtendedXMP[^0-9A-F]{1,20}([0-9A-F]{32})")
_LONGEST_JUNK = 16  # bytes before the address: Flickr writes `XMP` and a zero
_MOST_EXTENDED = 2
_PHOTOSHOP = b"Photoshop 3.0\0"


def find_xmp(segments: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """The packets of XMP in segments, names and contents, with those parts of extended XMP that they speak of."""
    packets: list[bytes] = []
    parts = []
    for name, content in segments:
        if name != "APP1":
            continue
        if content.startswith(_EXTENDED):
            if len(content) >= len(_EXTENDED) + _EXTENDED_HEADER.size:
                parts.append((*_EXTENDED_HEADER.unpack_from(content, len(_EXTENDED)), content))
        elif (at := content.find(_XMP, 0, _LONGEST_JUNK + len(_XMP))) >= 0:
            packet = content[at + len(_XMP) :]
            if packets and not _BEGINNING.match(packet) and not _END.search(packets[-1]):
                packets[-1] += packet  # some programs cut a packet where a segment is full, and write on in the next
            else:
                packets.append(packet)
    named = dict.fromkeys(found[1] for packet in packets if (found := _NAMED.search(packet)))
    return packets + [_join(digest, parts) for digest in list(named)[:_MOST_EXTENDED]]


def _join(digest: bytes, parts: Sequence[tuple[bytes, int, int, bytes]]) -> bytes:
    """The parts of one packet in their order, up to the first that is missing."""
    joined = bytearray()
    for _, _, start, content in sorted((part for part in parts if part[0] == digest), key=lambda part: part[2]):
        if start > len(joined):
            break
        joined[start:] = content[len(_EXTENDED) + _EXTENDED_HEADER.size :]
    return bytes(joined)


def find_iptc_block(segments: Sequence[tuple[str, bytes]]) -> bytes:
    """The IPTC block in the segments of Photoshop, which go on one in the next; b"" where there is none."""
    resources = (content for name, content in segments if name == "APP13" and content.startswith(_PHOTOSHOP))
    return find_iptc(b"".join(content[len(_PHOTOSHOP) :] for content in resources))
