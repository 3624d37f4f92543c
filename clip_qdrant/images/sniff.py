"""Which image format some bytes are in, told by their first bytes."""

from __future__ import annotations

import re

from clip_qdrant.errors import EmptyImage, NotAnImage, UnsupportedImage

__all__ = ["sniff"]


def _compile(*formats: tuple[bytes, str]) -> tuple[tuple[re.Pattern[bytes], str], ...]:
    return tuple((re.compile(pattern, re.DOTALL), name) for pattern, name in formats)


_DECODED = _compile(
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),  # "BM" alone also begins text
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"P[1-6]\s+[#0-9]", "PPM"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
)
_NOT_DECODED = _compile(
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "JPEG XL"),
    (rb"\0\0\x01\0[^\0]\0", "ICO"),
    (rb"8BPS", "Photoshop"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"icns", "ICNS"),
    (rb"DDS ", "DDS"),
    (rb"qoif", "QOI"),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
# What is often taken for an image: named, so that the message tells what was really there.
_NO_IMAGES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"<svg[\s>]", re.IGNORECASE), "an SVG drawing; render it to PNG first"),
    (re.compile(rb"<(!doctype html|html|head|body)[\s>]", re.IGNORECASE), "an HTML page, perhaps an error page"),
    (re.compile(rb"\A%PDF-"), "a PDF document; render its pages to PNG first"),
    (re.compile(rb"\APK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\A....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"\A\s*[{\[]"), "JSON, or text like it"),
    (re.compile(rb"\A[\t\n\r\x20-\x7e]{16,}"), "text"),
)


def sniff(data: bytes, name: str) -> str:
    """The format of some bytes: a name that `decoders.open_decoder` takes. `name` is for the messages.

    Raises EmptyImage, NotAnImage, and UnsupportedImage for a format that is known and not decoded here.
    """
    if not data:
        raise EmptyImage(f"{name} has no bytes")
    image_format = next((known for pattern, known in _DECODED if pattern.match(data)), "") or _sniff_iso_media(data)
    if image_format:
        return image_format
    other = next((known for pattern, known in _NOT_DECODED if pattern.match(data)), "")
    if other:
        raise UnsupportedImage(f"{name} is in {other} format, which is not decoded here; convert it to JPEG or PNG")
    head = data[:1024]
    guess = next((what for pattern, what in _NO_IMAGES if pattern.search(head)), "no known image format")
    raise NotAnImage(f"{name} is not an image: {guess} (it begins with {data[:12]!r})")


def _sniff_iso_media(data: bytes) -> str:
    """AVIF and HEIC are ISO base media files (ISO 14496-12): a `ftyp` box with a brand and compatible brands."""
    if data[4:8] != b"ftyp":
        return ""
    brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 256), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS or data[8:12] in (b"mif1", b"msf1") else ""
