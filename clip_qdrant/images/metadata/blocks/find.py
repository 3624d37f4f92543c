"""The EXIF, IPTC and XMP of an open image, as bytes: what Pillow found, and what it passes over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from clip_qdrant.images.metadata.blocks import gif, jpeg, jpeg2000, png, webp
from clip_qdrant.images.metadata.blocks.photoshop import find_iptc

__all__ = ["Blocks", "find_blocks"]

_PHOTOSHOP_IPTC = 0x0404
_MOST_PACKETS = 8  # a JPEG with extended XMP has two
_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP = 700, 33723, 34377


@dataclass(frozen=True, slots=True)
class Blocks:
    """`exif` is None where there is none or only Pillow has it (of a TIFF); of `xmp` an earlier packet goes first."""

    exif: bytes | None
    iptc: bytes
    xmp: tuple[bytes, ...]


def find_blocks(image: Image.Image, data: bytes = b"") -> Blocks:
    """The blocks of an image whose pixels are read. `data` is its file, b"" where nobody has it. Never raises."""
    exif, iptc, xmp = image.info.get("exif"), _find_iptc_of_pillow(image), [image.info.get("xmp")]
    found_exif: bytes | None = None
    found_iptc = b""
    segments = getattr(image, "applist", None)
    raw: dict[int, Any] = getattr(getattr(image, "tag_v2", None), "_tagdata", {})
    if isinstance(segments, list):
        xmp += jpeg.find_xmp(segments)
        found_iptc = jpeg.find_iptc_block(segments)
    elif image.format == "PNG" or any(name.startswith(png.PROFILE) for name in image.info if isinstance(name, str)):
        found_exif, found_iptc, packets = png.find_profiles(image.info)
        xmp += packets
    elif image.format == "TIFF":
        # The raw bytes: Photoshop declares IPTC as 32-bit numbers, of which Pillow would give one, and warn.
        xmp.insert(0, raw.get(_TIFF_XMP))
        found_iptc = raw.get(_TIFF_IPTC) or find_iptc(raw.get(_TIFF_PHOTOSHOP) or b"")
    elif data.startswith(b"GIF8"):
        xmp += gif.find_xmp(data)
    elif data.startswith(b"RIFF"):
        found_exif, packets = webp.find_chunks(data)
        xmp += packets
    elif data.startswith(jpeg2000.SIGNATURE):
        found_exif, found_iptc, packets = jpeg2000.find_boxes(data)
        xmp += packets
    return Blocks(
        exif=exif if isinstance(exif, bytes) else found_exif,
        iptc=max(iptc, found_iptc, key=len),  # Pillow cuts one that goes over several segments
        xmp=tuple(dict.fromkeys(packet for packet in map(_to_bytes, xmp) if packet))[:_MOST_PACKETS],
    )


def _find_iptc_of_pillow(image: Image.Image) -> bytes:
    resources = image.info.get("photoshop")
    block = resources.get(_PHOTOSHOP_IPTC) if isinstance(resources, dict) else None
    return block if isinstance(block, bytes) else b""


def _to_bytes(packet: Any) -> bytes:
    if isinstance(packet, str):
        return packet.encode("utf-8", "ignore")
    return packet if isinstance(packet, bytes) else b""
