"""EXIF, IPTC and XMP in texts of a PNG, as ImageMagick and GraphicsMagick write them: a kind, a size, hex digits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clip_qdrant.images.metadata.blocks.photoshop import find_iptc

__all__ = ["PROFILE", "find_profiles"]

PROFILE = "Raw profile type "
_XMP_TEXT = "XML:com.adobe.xmp"
_TEXT = re.compile(r"\s*\S+\s+(\d{1,9})\s+([0-9A-Fa-f\s]*)", re.ASCII)
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"


def find_profiles(info: Mapping[Any, Any]) -> tuple[bytes | None, bytes, list[bytes]]:
    """EXIF (None if there is none), IPTC (else b"") and packets of XMP in the texts of a PNG."""
    exif: bytes | None = None
    iptc = b""
    packets = []
    text = info.get(_XMP_TEXT)
    if isinstance(text, str) and info.get("xmp") is None:  # in a chunk of Latin-1, for which Pillow takes its bytes
        packets.append(text.encode("latin-1", "ignore"))
    for kind in ("exif", "APP1", "app1", "iptc", "8bim", "xmp"):
        content = _decode(info.get(PROFILE + kind))
        if content.startswith(_XMP_HEADER):
            packets.append(content.removeprefix(_XMP_HEADER))
        elif kind == "xmp":
            packets.append(content)
        elif kind in ("iptc", "8bim"):
            iptc = iptc or find_iptc(content) or (content if content.startswith(b"\x1c") else b"")
        elif content:
            exif = exif or content
    return exif, iptc, packets


def _decode(text: Any) -> bytes:
    """The bytes of a profile, b"" where it is missing or something else."""
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    digits = "".join(match[2].split()) if match else ""
    return bytes.fromhex(digits[: len(digits) // 2 * 2])
