"""The corpus: every kind of good and bad file that a folder of images may hold, each made by code, with its outcome."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

__all__ = ["Expectation", "write_corpus"]

SIZE = (64, 48)
EMPTY, NO_IMAGE, TRUNCATED, UNSUPPORTED = "empty", "not an image", "truncated", "unsupported"
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
TOO_LARGE, UNREADABLE, NOT_LISTED = "too large", "unreadable", "not listed"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What becomes of a file: stored with this size and format, or put away for this reason."""

    reason: str | None = None
    width: int = SIZE[0]
    height: int = SIZE[1]
    format: str = ""


Case = tuple[str, bytes, Expectation]


def write_corpus(folder: Path) -> dict[str, Expectation]:
    """Writes all kinds of files into a folder; gives by name within the folder what is to become of each.

    A name that is not UTF-8 is decoded as `os.fsdecode` does. What the file system refuses is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, Expectation] = {}
    for cases in (_good(), _modes(), _metadata(), _extremes(), _cut(), _broken(), _lies(), _something_else(), _names()):
        for name, data, expectation in cases:
            assert name not in expected, name
            try:
                (folder / name).write_bytes(data)
            except (OSError, UnicodeEncodeError):  # this file system has names of another kind
                continue
            expected[name] = expectation
    return expected | _no_files(folder)


def picture(seed: int = 0, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Noise of 8 x 8 patches: it does not compress to nothing, and every seed gives other bytes."""
    patches = np.random.default_rng(seed).integers(0, 255, (6, 8, 4), dtype=np.uint8)
    image = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
    return image.convert(mode if mode in ("L", "LA", "RGB") else "RGBA" if mode == "RGBA" else "RGB").convert(mode)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def stored(image_format: str, width: int = SIZE[0], height: int = SIZE[1]) -> Expectation:
    return Expectation(None, width, height, image_format)


def bad(reason: str) -> Expectation:
    return Expectation(reason)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"") -> bytes:
    """A PNG by hand: `rows` are its compressed scan lines, `before` chunks in front of them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """So many zero bytes, compressed."""
    stream, parts = zlib.compressobj(1), []
    block = bytes(1 << 20)
    while size > 0:
        parts.append(stream.compress(block[:size]))
        size -= len(block)
    return b"".join(parts) + stream.flush()


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def exif(main: dict[int, Any], photo: dict[int, Any] | None = None, gps: dict[int, Any] | None = None) -> bytes:
    blocks = Image.Exif()
    blocks.update({0x0131: "corpus", **main})
    blocks.get_ifd(0x8769).update(photo or {})
    blocks.get_ifd(0x8825).update(gps or {})
    return blocks.tobytes()


def has_avif() -> bool:
    return "avif" in features.modules and features.check("avif") is True


def _good() -> Iterator[Case]:
    formats = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM"}
    formats |= {"jp2": "JPEG2000"} | ({"avif": "AVIF"} if has_avif() else {})
    for number, (suffix, name) in enumerate(formats.items()):
        yield f"good.{suffix}", encoded(picture(number), name), stored(name)
    yield "UPPER.JPG", encoded(picture(20), "JPEG"), stored("JPEG")
    yield "a png.jpg", encoded(picture(21), "PNG"), stored("PNG")
    yield "a jpeg.png", encoded(picture(22), "JPEG"), stored("JPEG")
    yield "progressive.jpg", encoded(picture(23), "JPEG", progressive=True), stored("JPEG")
    yield "with garbage behind.jpg", encoded(picture(24), "JPEG") + b"\0garbage" * 99, stored("JPEG")
    yield (
        "with a second picture.jpg",
        encoded(picture(25), "MPO", save_all=True, append_images=[picture(26)]),
        stored("JPEG"),
    )
    for suffix, name in {"gif": "GIF", "webp": "WEBP", "png": "PNG", "tif": "TIFF"}.items():
        frames = [picture(28), picture(29)]
        yield f"several frames.{suffix}", encoded(picture(27), name, save_all=True, append_images=frames), stored(name)


def _modes() -> Iterator[Case]:
    for number, mode in enumerate(("1", "L", "P", "LA", "RGBA")):
        yield f"mode {mode}.png", encoded(picture(30 + number, mode=mode), "PNG"), stored("PNG")
    transparent = picture(36, mode="RGB").quantize(16)
    yield "transparent palette.png", encoded(transparent, "PNG", transparency=bytes(range(0, 256, 16))), stored("PNG")
    yield "transparent.gif", encoded(transparent, "GIF", transparency=3), stored("GIF")
    yield "transparent.webp", encoded(picture(37, mode="RGBA"), "WEBP", lossless=True), stored("WEBP")
    grey = np.random.default_rng(38).integers(0, 65535, SIZE[::-1], dtype=np.uint16)
    yield "16 bit grey.png", encoded(Image.fromarray(grey), "PNG"), stored("PNG")
    row = b"\0" + bytes(range(SIZE[0] * 6 % 256)) + bytes(SIZE[0] * 6 - SIZE[0] * 6 % 256)
    yield "16 bit colour.png", png(*SIZE, 16, 2, zlib.compress(row * SIZE[1])), stored("PNG")
    yield "float.tif", encoded(Image.fromarray(grey.astype(np.float32) / 65535), "TIFF"), stored("TIFF")
    yield "float without a range.tif", encoded(Image.fromarray(grey * np.float32(-9.5)), "TIFF"), bad(UNSUPPORTED)
    yield "lab.tif", encoded(Image.new("LAB", SIZE, (50, 10, 10)), "TIFF"), bad(UNSUPPORTED)
    inverted = encoded(picture(39).convert("CMYK"), "JPEG")  # as Adobe stores it
    at = inverted.index(b"\xff\xee\0\x0eAdobe")
    yield "cmyk of adobe.jpg", inverted, stored("JPEG")
    yield "cmyk.jpg", inverted[:at] + inverted[at + 16 :], stored("JPEG")
    yield "cmyk.tif", encoded(picture(40).convert("CMYK"), "TIFF"), stored("TIFF")
    yield "grey.jpg", encoded(picture(41, mode="L"), "JPEG"), stored("JPEG")


def _metadata() -> Iterator[Case]:
    def photo(seed: int, block: bytes) -> bytes:
        return encoded(picture(seed), "JPEG", exif=block)

    yield "turned.jpg", photo(50, exif({0x0112: 6})), stored("JPEG", SIZE[1], SIZE[0])
    yield "orientation 9.jpg", photo(51, exif({0x0112: 9})), stored("JPEG")
    yield "date of the year 0.jpg", photo(52, exif({}, {0x9003: "0000:00:00 00:00:00"})), stored("JPEG")
    nowhere = {1: "N", 2: (999.0, 0.0, 0.0), 3: "E", 4: (999.0, 0.0, 0.0)}
    yield "gps 999.jpg", photo(53, exif({}, gps=nowhere)), stored("JPEG")
    itself = struct.pack("<2sHIH", b"II", 42, 8, 2) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    itself += struct.pack("<HHII", 0x8825, 4, 1, 8) + struct.pack("<I", 8)
    yield "exif that points at itself.jpg", photo(54, b"Exif\0\0" + itself), stored("JPEG")
    yield "exif of garbage.jpg", photo(55, b"Exif\0\0" + bytes(range(256)) * 9), stored("JPEG")
    thumbnail = b"Exif\0\0" + struct.pack("<2sHIHIH", b"II", 42, 8, 0, 14, 2)
    thumbnail += struct.pack("<HHII", 0x0201, 4, 1, 60) + struct.pack("<HHII", 0x0202, 4, 1, 9999) + bytes(30)
    yield "exif of a thumbnail alone.jpg", photo(56, thumbnail), stored("JPEG")
    for suffix, name in {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}.items():
        yield f"broken profile.{suffix}", encoded(picture(57), name, icc_profile=b"rubbish" * 30), stored(name)
    laughs = b"<!DOCTYPE x [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;'>]><x>&b;</x>"
    yield "xmp that laughs.jpg", encoded(picture(58), "JPEG", xmp=laughs), stored("JPEG")
    yield (
        "iptc of garbage.jpg",
        with_segment(
            encoded(picture(59), "JPEG"), 0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\x09\x1c\2\5\xff\xffabcd"
        ),
        stored("JPEG"),
    )
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zeros(50_000_000))
    yield "text of 50 MB.png", png(8, 8, 8, 0, zlib.compress(bytes(72)), before=bomb), stored("PNG", 8, 8)


def _extremes() -> Iterator[Case]:
    yield "one pixel.png", encoded(picture(60, (1, 1)), "PNG"), stored("PNG", 1, 1)
    yield "one pixel.jpg", encoded(picture(61, (1, 1)), "JPEG"), stored("JPEG", 1, 1)
    yield "one pixel.gif", encoded(picture(62, (1, 1)), "GIF"), stored("GIF", 1, 1)
    yield "wide.png", encoded(picture(63, (100_000, 1)), "PNG"), stored("PNG", 100_000, 1)
    yield "tall.png", encoded(picture(64, (1, 100_000)), "PNG"), stored("PNG", 1, 100_000)
    yield "wide.jpg", encoded(picture(65, (65_000, 1)), "JPEG"), stored("JPEG", 65_000, 1)
    yield "bomb.png", png(40_000, 40_000, 1, 0, zeros(5_001 * 40_000)), bad(TOO_LARGE)


def _cut() -> Iterator[Case]:
    formats = {
        "jpg": "JPEG",
        "png": "PNG",
        "gif": "GIF",
        "webp": "WEBP",
        "tif": "TIFF",
        "bmp": "BMP",
        "jp2": "JPEG2000",
    }
    formats |= {"avif": "AVIF"} if has_avif() else {}
    for suffix, name in formats.items():
        data = encoded(picture(70), name)
        for percent in (15, 50, 90):
            yield f"cut at {percent}.{suffix}", data[: len(data) * percent // 100], bad(TRUNCATED)
    for suffix, size in {"jpg": 3, "png": 8, "gif": 6, "tif": 4, "webp": 12}.items():
        yield f"signature alone.{suffix}", encoded(picture(71), formats[suffix])[:size], bad(TRUNCATED)
    progressive = encoded(picture(72), "JPEG", progressive=True)
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    first_scan = progressive[: progressive.rindex(b"\xff\xc4", 0, second_scan)]  # the second one's table is left out
    yield "first scan alone.jpg", first_scan, bad(TRUNCATED)
    # A whole JPEG for all that its decoder can tell: `load_image` says that such a blurred picture passes.
    yield "first scan with an end.jpg", first_scan + b"\xff\xd9", stored("JPEG")
    whole = encoded(picture(73), "JPEG", quality=95)
    yield "cut and closed.jpg", whole[: len(whole) // 2].rstrip(b"\xff") + b"\xff\xd9", bad(TRUNCATED)
    yield "half of it zeros.jpg", whole[: len(whole) // 2] + bytes(len(whole) // 2), bad(TRUNCATED)


def _broken() -> Iterator[Case]:
    data = encoded(picture(80), "PNG")
    at = data.index(b"IDAT") + 20
    yield "wrong checksum.png", data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], bad(TRUNCATED)
    yield "pixels of garbage.png", png(64, 48, 8, 2, b"\x78\x9c" + bytes(range(200))), bad(TRUNCATED)
    yield "no pixels.png", data[:33] + png_chunk(b"IEND", b""), bad(TRUNCATED)
    yield "size 0.png", png(0, 0, 8, 2, zlib.compress(b"")), bad(TRUNCATED)
    yield "no frame.gif", b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", bad(TRUNCATED)
    yield "no directory.tif", b"II*\0\xff\xff\xff\x7f", bad(TRUNCATED)
    yield "directory without end.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(40), bad(TRUNCATED)
    yield (
        "unknown compression.tif",
        encoded(picture(81), "TIFF").replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 999)),
        bad(UNSUPPORTED),
    )


def _lies() -> Iterator[Case]:
    """Sizes in headers that the data behind does not have."""
    jpeg = encoded(picture(90), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    yield "claims 2000.jpg", jpeg[:frame] + struct.pack(">HH", 2000, 2000) + jpeg[frame + 4 :], bad(TRUNCATED)
    yield "claims 65535.jpg", jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :], bad(TOO_LARGE)
    yield "claims 60000.png", png(60_000, 60_000, 8, 2, zeros(1000)), bad(TOO_LARGE)
    yield "claims 9000.png", png(9_000, 9_000, 1, 0, zeros(1000)), bad(TRUNCATED)
    gif = encoded(picture(91), "GIF")
    yield "screen of 65535.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:], bad(TOO_LARGE)
    tiff = encoded(picture(92), "TIFF")
    for tag, side in ((256, 64), (257, 48)):
        tiff = tiff.replace(struct.pack("<HHIHH", tag, 3, 1, side, 0), struct.pack("<HHII", tag, 4, 1, 60_000))
        tiff = tiff.replace(struct.pack("<HHII", tag, 4, 1, side), struct.pack("<HHII", tag, 4, 1, 60_000))
    yield "claims 60000.tif", tiff, bad(TOO_LARGE)
    bmp = encoded(picture(93), "BMP")
    yield "claims 60000.bmp", bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:], bad(TOO_LARGE)
    yield "claims 60000.ppm", b"P6 60000 60000 255\n" + bytes(99), bad(TOO_LARGE)


def _something_else() -> Iterator[Case]:
    ftyp = struct.pack(">I", 24) + b"ftyp"
    others: dict[str, tuple[bytes, str]] = {
        "empty": (b"", EMPTY),
        "text": (b"Once upon a time there was a cat.", NO_IMAGE),
        "text in utf-16": ("Once upon a time".encode("utf-16"), NO_IMAGE),
        "page": (b"<!DOCTYPE html><html><body>404 Not Found", NO_IMAGE),
        "error of a bucket": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", NO_IMAGE),
        "json": (b'{"error": "forbidden"}', NO_IMAGE),
        "pointer of git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", NO_IMAGE),
        "data uri": (b"data:image/jpeg;base64,/9j/4AAQSkZJRg==", NO_IMAGE),
        "drawing": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", NO_IMAGE),
        "document": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", NO_IMAGE),
        "archive": (b"PK\x03\x04" + bytes(40), NO_IMAGE),
        "video": (ftyp + b"isom\0\0\2\0isomavc1", NO_IMAGE),
        "zeros": (bytes(5000), NO_IMAGE),
        "noise": (np.random.default_rng(1).integers(1, 60, 5000, dtype=np.uint8).tobytes(), NO_IMAGE),
        "compressed": (gzip.compress(encoded(picture(95), "JPEG"), mtime=0), NO_IMAGE),
        "photo of a phone": (ftyp + b"heic\0\0\0\0mif1heic" + bytes(400), TRUNCATED if HAS_HEIF else UNSUPPORTED),
        "jpeg xl": (b"\xff\x0a" + bytes(40), UNSUPPORTED),
        "jpeg xl in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), UNSUPPORTED),
        "icon": (b"\0\0\1\0\1\0" + bytes(40), UNSUPPORTED),
        "layers": (b"8BPS\0\1" + bytes(40), UNSUPPORTED),
        "page description": (b"%!PS-Adobe-3.0 EPSF-3.0\n", UNSUPPORTED),
        "high range": (b"v/1\x01" + bytes(40), UNSUPPORTED),
    }
    for name, (data, reason) in others.items():
        yield f"{name}.jpg", data, bad(reason)


def _names() -> Iterator[Case]:
    names = [
        "new\nline.png",
        "tab\t.png",
        "'single' and \"double\".png",
        "caf\xe9.png",
        "cafe\u0301.png",  # the same to look at, another name to most file systems
        "\U0001f63a\U0001f3fd.png",
        "-dash.png",
        " space .png",
        "hash#1.png",
        "%41.png",
        "question?.png",
        "back\\slash.png",
        "semi;colon,comma.png",
        "{brace}[bracket]*.png",
        "x" * 251 + ".png",
        os.fsdecode(b"not utf-8 \xff\xfe.png"),
    ]
    for number, name in enumerate(names):
        yield name, encoded(picture(200 + number), "PNG"), stored("PNG")


def _no_files(folder: Path) -> dict[str, Expectation]:
    """What has the name of an image and is none, or cannot be opened."""
    expected = {"folder.jpg": bad(NOT_LISTED), ".hidden.jpg": bad(NOT_LISTED)}
    (folder / "folder.jpg").mkdir(exist_ok=True)
    (folder / ".hidden.jpg").write_bytes(encoded(picture(300), "JPEG"))
    for name, target in {"dangling link.jpg": "nowhere.jpg", "link to itself.jpg": "link to itself.jpg"}.items():
        (folder / name).symlink_to(target)
        expected[name] = bad(NOT_LISTED)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        expected["pipe.jpg"] = bad(UNREADABLE)
    secret = folder / "no permission.jpg"
    secret.write_bytes(encoded(picture(301), "JPEG"))
    secret.chmod(0)
    expected[secret.name] = stored("JPEG") if os.access(secret, os.R_OK) else bad(UNREADABLE)  # root reads everything
    return expected
