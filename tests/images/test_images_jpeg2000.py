"""JPEG 2000: palettes as they are written, and samples in their own range."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from clip_qdrant.errors import UnsupportedImage
from clip_qdrant.images.load import load_image

SRGB, GREY, CMYK = 16, 17, 12
COLOURS = [(255, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0)]  # one of them twice


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + kind + content


def codestream(pixels: np.ndarray, bits: int | None = None) -> bytes:
    """Without loss; `bits` stands in the header in place of 8 or 16, and moves the samples (T.800, G.1)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    data = bytearray(file.getvalue())
    if bits is not None:
        for component in range(pixels.shape[2] if pixels.ndim == 3 else 1):
            data[42 + 3 * component] = bits - 1
    return bytes(data)


def jp2(content: bytes, head: bytes, *, space: int = SRGB, size: int = 32) -> bytes:
    header = box(b"ihdr", struct.pack(">LLHBBBB", size, size, 1, 7, 7, 0, 0)) + box(
        b"colr", struct.pack(">BBBL", 1, 0, 0, space)
    )
    begin = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return begin + box(b"jp2h", header + head) + box(b"jp2c", content)


def palette(colours: list[tuple[int, ...]], bits: int = 8) -> bytes:
    columns = len(colours[0])
    entries = b"".join(struct.pack(f">{columns}{'B' if bits <= 8 else 'H'}", *colour) for colour in colours)
    return box(b"pclr", struct.pack(">HB", len(colours), columns) + bytes([bits - 1]) * columns + entries)


def mapping(*columns: int) -> bytes:
    return box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, column) for column in columns))


def index(value: int) -> np.ndarray:
    return np.full((32, 32), value, np.uint8)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("space", [SRGB, GREY])
def test_a_palette_gives_its_colours_also_where_one_is_there_twice(number: int, space: int) -> None:
    data = jp2(codestream(index(number)), palette(COLOURS) + mapping(0, 1, 2), space=space)
    assert load_image(data).rgb.getpixel((3, 3)) == COLOURS[number]


def test_the_columns_of_a_palette_are_taken_as_the_file_maps_them() -> None:
    data = jp2(codestream(index(2)), palette(COLOURS) + mapping(2, 1, 0))
    assert load_image(data).rgb.getpixel((3, 3)) == (255, 0, 0)


def test_a_palette_of_other_depths_and_channels() -> None:
    deep = palette([(0, 0, 0), (4095, 0, 2048)], bits=12) + mapping(0, 1, 2)
    assert load_image(jp2(codestream(index(1)), deep)).rgb.getpixel((0, 0)) == (255, 0, 128)
    through = palette([(10, 20, 30, 0), (10, 20, 30, 255)]) + mapping(0, 1, 2, 3)
    assert [load_image(jp2(codestream(index(i)), through)).rgb.getpixel((0, 0)) for i in (0, 1)] == [
        (255,) * 3,
        (10, 20, 30),
    ]
    grey = palette([(7,), (77,)]) + mapping(0)
    assert load_image(jp2(codestream(index(1)), grey, space=GREY)).rgb.getpixel((0, 0)) == (77, 77, 77)


def test_an_index_behind_the_palette_is_its_last_colour() -> None:
    data = jp2(codestream(index(200)), palette(COLOURS) + mapping(0, 1, 2))
    assert load_image(data).rgb.getpixel((3, 3)) == COLOURS[-1]


def test_a_palette_that_is_cut_off_is_unsupported() -> None:
    head = palette(COLOURS)[:-3]
    with pytest.raises(UnsupportedImage, match="palette"):
        load_image(jp2(codestream(index(0)), struct.pack(">L", len(head)) + head[4:] + mapping(0, 1, 2)))


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
def test_samples_of_few_bits_are_scaled_by_their_own_range(bits: int) -> None:
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    for value in (0, half, top):
        data = codestream(np.full((32, 32), value - half + 128, np.uint8), bits)
        assert load_image(data).rgb.getpixel((3, 3))[0] == pytest.approx(value * 255 / top, abs=1)
    colours = codestream(np.full((32, 32, 3), 128 + top - half, np.uint8), bits)
    assert load_image(colours).rgb.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_samples_of_many_bits_are_scaled_by_their_own_range(bits: int) -> None:
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    for value in (0, half, top):
        data = codestream(np.full((32, 32), value - half + 32768, np.uint16), bits)
        assert load_image(data).rgb.getpixel((3, 3))[0] == pytest.approx(value * 255 / top, abs=0.6)


@pytest.mark.parametrize("space", [SRGB, GREY, 15, 99])
def test_a_colour_space_that_does_not_fit_the_components_keeps_no_image_out(space: int) -> None:
    assert load_image(jp2(codestream(index(77)), b"", space=space)).rgb.getpixel((0, 0)) == (77, 77, 77)


def test_more_than_four_components_are_unsupported() -> None:
    data = bytearray(codestream(index(0)))
    struct.pack_into(">H", data, 40, 7)
    with pytest.raises(UnsupportedImage, match="7 components"):
        load_image(bytes(data) + bytes(100))
