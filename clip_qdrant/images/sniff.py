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
    (rb"\0\0[\x01\x02]\0[^\0]\0", "ICO"),
    (rb"8BPS", "Photoshop"),
    (rb"gimp xcf", "GIMP"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"icns", "ICNS"),
    (rb"DDS ", "DDS"),
    (rb"\xabKTX ", "KTX"),
    (rb"qoif", "QOI"),
    (rb"\x8a(MNG)\r\n|\x8b(JNG)\r\n", "MNG"),
    (rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]", "SGI"),
    (rb"\x59\xa6\x6a\x95", "Sun raster"),
    (rb"\x0a[\0-\x05][\0\x01][\x01\x02\x04\x08]|\xb1\x68\xde\x3a", "PCX"),
    (rb"BLP[12]", "BLP"),
    (rb"FTEX", "FTEX"),
    (rb"PGF[0-9]", "PGF"),
    (rb"(DanM|LinS).{4}", "Microsoft Paint"),
    (rb"RIFF....ACON", "animated cursor"),
    (rb"....[\x11\x12]\xaf..[\x01-\xff].[\x01-\xff].", "FLIC"),
    (rb"\x28\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0", "bitmap without its header"),
    (rb"Image type: ", "IFUNC"),
    (rb"P[Ff]\s+[0-9]", "PFM"),
    (rb"P7\s", "PAM"),
    (rb"/\* XPM \*/", "XPM"),
    (rb"#define \S+_width[ \t]", "XBM"),
    (rb"SIMPLE  =", "FITS"),
    (rb".{128}DICM", "DICOM"),
    (rb"FORM....(ILBM|PBM )", "ILBM"),
    (rb"AT&TFORM....DJV", "DjVu"),
    (rb"BPG\xfb", "BPG"),
    (rb"FLIF", "FLIF"),
    (rb"II\xbc\x01", "JPEG XR"),
    (rb"\x97JB2\r\n", "JBIG2"),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "WMF or EMF"),
    (rb"II\*\0.{4}CR|....ftypcrx |FUJIFILMCCD-RAW|II(RO|RS|U\0)|FOVb|\0MRM", "camera raw"),
    # Truevision, which has no signature: no colour map or one of up to 256 colours, a kind, a size, a depth.
    (rb".(\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]..[\0-\xff][\0\x01][\x0f\x10\x18\x20]).{4}"
     rb"(?!\0\0).{2}(?!\0\0).{2}[\x08\x0f\x10\x18\x20][\0-\x3f]", "TGA"),
)  # fmt: skip
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
    other = next((known for pattern, known in _NOT_DECODED if pattern.match(data)), "")
    if image_format and other != "camera raw":  # some of which are TIFF
        return image_format
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
