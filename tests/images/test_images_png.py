"""What stands beside the picture of a PNG never decides over it, and one colour may be transparent in every mode."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from clip_qdrant.errors import TruncatedImage, UnsupportedImage
from clip_qdrant.images.load import load_image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
RED = (200, 30, 30)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def png(
    pixels: np.ndarray, depth: int, colours: int, *, before: bytes = b"", interlaced: bool = False, cut: int = 0
) -> bytes:
    """Samples (height, width, channels) as a PNG; `cut` bytes of its rows are not in the stream, which is valid."""
    height, width = pixels.shape[:2]
    passes = PASSES if interlaced else ((0, 1, 0, 1),)
    rows = b""
    for top, row_step, left, column_step in passes:
        part = pixels[top::row_step, left::column_step]
        for row in part if part.size else ():
            digits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
            rows += b"\0" + np.packbits(digits.astype(np.uint8)).tobytes()
    head = struct.pack(">LLBBBBB", width, height, depth, colours, 0, 0, int(interlaced))
    body = zlib.compress(rows[: len(rows) - cut])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def plain(before: bytes = b"") -> bytes:
    return png(np.full((4, 5, 3), RED), 8, RGB, before=before)


def profile(size: int) -> bytes:
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(size))
    content[:4] = struct.pack(">L", len(content))
    return bytes(content)


LONG_TEXT = zlib.compress(b"x" * 1_300_000)
ODD_CHUNKS = {
    "a profile of 1.5 MB": chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile(1_500_000))),
    "a profile of 10 MB": chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile(10_000_000))),
    "a profile in an unknown compression": chunk(b"iCCP", b"icc\0\7" + zlib.compress(profile(0))),
    "a profile that is cut off": chunk(b"iCCP", b"icc"),
    "a text of 1.3 MB": chunk(b"zTXt", b"workflow\0\0" + LONG_TEXT),
    "an international text of 1.3 MB": chunk(b"iTXt", b"workflow\0\1\0\0\0" + LONG_TEXT),
    "a text in an unknown compression": chunk(b"zTXt", b"workflow\0\7" + LONG_TEXT),
    "70 MB of texts": chunk(b"zTXt", b"a\0\0" + LONG_TEXT) * 55,
    "a text called transparency": chunk(b"tEXt", b"transparency\0ff"),
    "a text called icc_profile": chunk(b"tEXt", b"icc_profile\0ff"),
    "a text without an end": chunk(b"tEXt", b"comment"),
    "numbers that are cut off": chunk(b"gAMA", b"\0")
    + chunk(b"cHRM", b"\0")
    + chunk(b"pHYs", b"\0")
    + chunk(b"sRGB", b""),
    "a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    "transparency that is cut off": chunk(b"tRNS", b"\0"),
    "an animation of no frames": chunk(b"acTL", struct.pack(">LL", 0, 0)),
    "an animation twice": chunk(b"acTL", struct.pack(">LL", 2, 0)) * 2,
    "a frame outside the picture": chunk(b"acTL", struct.pack(">LL", 2, 0))
    + chunk(b"fcTL", struct.pack(">LLLLLHHBB", 0, 50, 50, 9, 9, 1, 1, 0, 0)),
    "fewer significant bits": chunk(b"sBIT", b"\5\6\5"),
    "EXIF that is none": chunk(b"eXIf", b"nothing"),
    "an unknown chunk": chunk(b"quXx", b"nothing"),
}


@pytest.mark.parametrize("what", ODD_CHUNKS)
def test_what_stands_beside_the_picture_does_not_decide_over_it(what: str) -> None:
    assert np.array_equal(np.asarray(load_image(plain(ODD_CHUNKS[what])).rgb), np.asarray(load_image(plain()).rgb))


@pytest.mark.parametrize("after", [b"tEXta\0b", b"zTXtworkflow\0\0" + LONG_TEXT])
def test_what_stands_behind_the_picture_does_not_either(after: bytes) -> None:
    end = len(chunk(b"IEND", b""))
    data = plain()
    assert load_image(data[:-end] + chunk(after[:4], after[4:]) + data[-end:]).rgb.getpixel((0, 0)) == RED
    assert load_image(data[:-end] + struct.pack(">L", 50) + after[:9]).rgb.getpixel((0, 0)) == RED


def test_pixels_in_several_chunks_are_one_stream() -> None:
    data = plain()
    start = data.index(b"IDAT") - 4
    body = data[start + 8 : -16]
    pieces = [body[:3], b"", body[3:10], body[10:]]
    data = data[:start] + b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b"")
    assert load_image(data).rgb.getpixel((4, 3)) == RED


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_grey_is_transparent_at_every_depth(depth: int) -> None:
    top = (1 << depth) - 1
    pixels = np.array([[[0], [top // 2], [top]]])
    through = [
        np.asarray(load_image(png(pixels, depth, GREY, before=chunk(b"tRNS", struct.pack(">H", value)))).rgb)[
            0, :, 0
        ].tolist()
        for value in (0, top)
    ]
    middle = 0 if depth == 1 else round(top // 2 * 255 / top)
    assert through[0] == [255, 255 if depth == 1 else middle, 255]
    assert through[1] == [0, middle, 255]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_one_colour_is_transparent_at_every_depth(depth: int, interlaced: bool) -> None:
    scale = 257 if depth == 16 else 1
    pixels = np.array([[[200, 30, 30], [30, 200, 30]]]) * scale
    data = png(pixels, depth, RGB, before=chunk(b"tRNS", struct.pack(">3H", *pixels[0, 0])), interlaced=interlaced)
    assert [load_image(data).rgb.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (30, 200, 30)]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_colours_of_a_palette_are_transparent(depth: int) -> None:
    before = chunk(b"PLTE", bytes((*RED, 0, 0, 255))) + chunk(b"tRNS", b"\xff\0")
    data = png(np.array([[[0], [1]]]), depth, PALETTE, before=before)
    assert [load_image(data).rgb.getpixel((x, 0)) for x in (0, 1)] == [RED, (255, 255, 255)]


FORMS = [(depth, colours) for colours in CHANNELS for depth in (1, 2, 4, 8, 16)
         if depth >= 8 or colours in (GREY, PALETTE) if (depth, colours) != (16, PALETTE)]  # fmt: skip


@pytest.mark.parametrize(("depth", "colours"), FORMS)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_stream_that_ends_early_as_if_it_were_whole_is_truncated(depth: int, colours: int, interlaced: bool) -> None:
    before = chunk(b"PLTE", bytes(range(3 * min(256, 1 << depth)))) if colours == PALETTE and depth < 8 else b""
    if colours == PALETTE and depth == 8:
        before = chunk(b"PLTE", bytes(768))
    for height, width in itertools.product((1, 2, 5, 8), (1, 2, 5, 9)):
        pixels = np.zeros((height, width, CHANNELS[colours]), np.int64)
        for fill in (0, (1 << depth) - 1, 1):
            pixels[:] = fill
            assert load_image(png(pixels, depth, colours, before=before, interlaced=interlaced)).rgb.size == (
                width,
                height,
            )
        with pytest.raises(TruncatedImage):
            load_image(png(pixels, depth, colours, before=before, interlaced=interlaced, cut=1))
        with pytest.raises(TruncatedImage):
            load_image(png(pixels, depth, colours, before=before, interlaced=interlaced, cut=2 * height))


def test_a_png_of_apples_tools_is_unsupported() -> None:
    data = plain()
    with pytest.raises(UnsupportedImage, match="Apple"):
        load_image(data[:8] + chunk(b"CgBI", bytes(4)) + data[8:])


def test_a_png_without_header_or_pixels_is_truncated() -> None:
    data = plain()
    for bad in (data[:20], data[:8] + data[33:], data[:33] + chunk(b"IEND", b"")):
        with pytest.raises(TruncatedImage):
            load_image(bad)


def test_an_interlaced_png_gives_its_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3))
    assert np.array_equal(np.asarray(load_image(png(pixels, 8, RGB, interlaced=True)).rgb), pixels)


def test_a_large_png_that_pillow_wrote_comes_out_as_it_was() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (500, 600, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert load_image(file.getvalue()).rgb.tobytes() == noise.tobytes()
