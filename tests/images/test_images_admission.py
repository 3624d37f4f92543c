"""Decoding says beforehand how much memory it takes, keeps to it, and gives it back when the picture is small."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import run_fork
from peak_memory import PEAK_MEMORY
from PIL import Image, features
from tiffs import make_tiff

from clip_qdrant.errors import ImageTooLarge, TruncatedImage, UnsupportedImage
from clip_qdrant.images import pixels
from clip_qdrant.images.load import Limits, load_image

HAS_AVIF = "avif" in features.modules and features.check("avif")


class Gate:
    """Admits everything and keeps a record: bytes asked for, and whether a decoding is under way."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.inside = 0

    @contextlib.contextmanager
    def admit(self, size: int) -> Iterator[None]:
        self.asked.append(size)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (25, 40, 4), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST).convert(mode)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def encoded_big(image: Image.Image, image_format: str, **options: Any) -> bytes:
    if image_format == "HEIF":
        file = io.BytesIO()
        pytest.importorskip("pillow_heif").from_pillow(image).save(file, **options)
        return file.getvalue()
    if image_format == "JPEG without end":
        return encoded(image, "JPEG", **options)[:-2]
    if image_format == "12 bit":
        tags = {256: image.width, 257: image.height, 258: [12] * 3, 259: 1, 262: 2, 277: 3, 278: image.height}
        size = image.height * image.width * 36 // 8
        return make_tiff((tags, [(bytes(range(256)) * (size // 256 + 1))[:size]]))
    return encoded(image, image_format, **options)


def asked(data: bytes, target: int | None = 16) -> int:
    gate = Gate()
    load_image(data, target=target, admit=gate.admit)
    assert gate.inside == 0
    assert len(gate.asked) == 1
    return gate.asked[0]


def test_a_file_asks_once_for_what_its_pixels_take() -> None:
    assert asked(encoded(picture(400, 250), "PNG")) == 400 * 250 * 4  # Pillow keeps RGB in 4 bytes
    assert asked(encoded(picture(400, 250, "L"), "PNG")) == 400 * 250
    assert asked(encoded(picture(400, 250, "P"), "PNG", transparency=1)) == 400 * 250
    assert asked(encoded(picture(400, 250).convert("L").convert("I;16"), "PNG")) == 400 * 250 * 2


def test_a_jpeg_asks_for_the_size_it_is_scaled_to_while_it_is_decoded() -> None:
    data = encoded(picture(800, 800), "JPEG")
    assert asked(data, target=100) == 100 * 100 * 12  # too small to be reduced further
    assert asked(data, target=25) == 100 * 100 * 4
    assert asked(data, target=None) == 800 * 800 * 12


@pytest.mark.parametrize(("subsampling", "coefficients"), [(0, 3.0), (1, 2.0), (2, 1.5)])
def test_a_progressive_jpeg_asks_for_its_coefficients_too(subsampling: int, coefficients: float) -> None:
    data = encoded(picture(800, 800), "JPEG", progressive=True, subsampling=subsampling)
    assert asked(data, target=100) == 100 * 100 * 12 + 800 * 800 * 2 * coefficients


@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}], ids=str)
def test_a_jpeg_without_an_end_asks_for_its_whole_size(options: dict[str, Any]) -> None:
    data = encoded(picture(800, 800), "JPEG", **options)
    assert asked(data[:-2], target=100) == asked(data, target=100) + 4 * 800 * 800


def test_a_jpeg_whose_first_scan_lacks_a_component_counts_as_progressive() -> None:
    data = bytearray(encoded(picture(800, 800), "JPEG"))
    header = data.index(b"\xff\xda\0\x0c\3")
    data[header : header + 14] = b"\xff\xda\0\x08\1\1\0\0\x3f\0"  # luminance alone
    gate = Gate()
    with contextlib.suppress(TruncatedImage):
        load_image(bytes(data), target=100, admit=gate.admit)
    assert gate.asked == [100 * 100 * 12 + 800 * 800 * 3]


def test_what_will_not_be_reduced_asks_for_its_copies_too() -> None:
    data = encoded(picture(400, 250), "PNG")
    assert asked(data, target=None) == asked(data, target=200) == 400 * 250 * 12


LONG, SLONG8 = 4, 17  # types of TIFF; the second is read by libtiff and not by Pillow


def tiff_of_one_tile(side: int, kind: int = LONG) -> bytes:
    """A grey TIFF of one pixel, in a tile of `side` squared, the side written as a number of some type."""
    tile = zlib.compress(bytes(side * side))
    sides = 8 + 2 + 12 * 10 + 4
    numbers = {256: 1, 257: 1, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: sides + 8, 325: len(tile)}
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, sides if kind == SLONG8 else side)
        if tag in (322, 323)
        else struct.pack("<HHII", tag, LONG, 1, number)
        for tag, number in numbers.items()
    )
    return struct.pack("<2sHIH", b"II", 42, 8, len(numbers)) + entries + bytes(4) + struct.pack("<q", side) + tile


def test_a_tiff_asks_for_whole_tiles_which_may_be_larger_than_the_image() -> None:
    data = tiff_of_one_tile(512)
    assert asked(data) == 1 + 8 * 512 * 512 + 8 + len(data)  # which libtiff wants in one piece


@pytest.mark.parametrize(("kind", "error"), [(LONG, ImageTooLarge), (SLONG8, UnsupportedImage)])
def test_a_tiff_with_tiles_over_the_limit_or_of_a_size_unknown_is_refused(kind: int, error: type[Exception]) -> None:
    gate = Gate()
    with pytest.raises(error, match="tile"):
        load_image(tiff_of_one_tile(512, kind), limits=Limits(max_pixels=512 * 511), admit=gate.admit)
    assert gate.asked == []


def test_a_tiff_that_lies_on_its_side_asks_for_strips_of_its_width_in_the_file() -> None:
    lying = encoded(picture(400, 250, "L"), "TIFF", compression="tiff_lzw", tiffinfo={274: 6, 278: 100})
    assert asked(lying, target=16) == 400 * 250 + 8 * 400 * 100 + len(lying)


def test_nothing_is_asked_for_what_is_refused_or_is_in_memory_already() -> None:
    gate = Gate()
    with pytest.raises(ImageTooLarge):
        load_image(encoded(picture(400, 250), "PNG"), limits=Limits(max_pixels=1000), admit=gate.admit)
    load_image(picture(400, 250), admit=gate.admit)
    load_image(np.zeros((4, 4), np.uint8), admit=gate.admit)
    assert gate.asked == []


def test_an_image_that_turns_out_damaged_gives_back_what_it_was_admitted() -> None:
    gate = Gate()
    with pytest.raises(TruncatedImage):
        load_image(encoded(picture(400, 250), "JPEG")[:2000], admit=gate.admit)
    assert (len(gate.asked), gate.inside) == (1, 0)


def test_what_admit_raises_passes_through_as_it_is() -> None:
    @contextlib.contextmanager
    def closed(size: int) -> Iterator[None]:
        raise InterruptedError("stopped")
        yield

    with pytest.raises(InterruptedError, match="stopped"):
        load_image(encoded(picture(40, 25), "PNG"), admit=closed)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "I", "F", "I;16", "transparent P"])
@pytest.mark.parametrize("target", [None, 10, 300])
@pytest.mark.parametrize("size", [(203, 331), (2000, 37)])
def test_bands_give_the_picture_that_the_whole_gives(
    mode: str, target: int | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(*size, "L" if mode in ("I", "F", "I;16") else "RGBA").convert(mode.split()[-1])
    if mode == "transparent P":
        image.info["transparency"] = 3
    whole = load_image(image, target=target)
    monkeypatch.setattr(pixels, "_BAND_PIXELS", 1000)
    in_bands = load_image(image, target=target)
    assert in_bands.rgb.tobytes() == whole.rgb.tobytes()
    assert in_bands.info == whole.info


PEAK = f"""{PEAK_MEMORY}
import contextlib, sys
from clip_qdrant.images.load import load_image

asked = []

@contextlib.contextmanager
def admit(size):
    asked.append(size)
    yield

load_image(Path(sys.argv[2]), target=16)
data = Path(sys.argv[1]).read_bytes()
before = peak_memory()
load_image(data, target=224, admit=admit)
print(asked[0], (peak_memory() - before) * 1024)
"""
SIDE = 3000  # of a picture in pixels: a copy of one takes more than what is allowed beside
BIG: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rgb": ("PNG", "RGB", {"compress_level": 1}),
    "rgba": ("PNG", "RGBA", {"compress_level": 1}),
    "transparent palette": ("PNG", "P", {"compress_level": 1, "transparency": 3}),
    "16 bit": ("PNG", "I;16", {"compress_level": 1}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "ppm": ("PPM", "RGB", {}),
    "jpeg": ("JPEG", "RGB", {}),
    "progressive": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "grey at the end": ("JPEG", "RGB", {}),
    "tiff": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff of one strip": ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),
    "tiff of 12 bits": ("12 bit", "RGB", {}),
    "jpeg without end": ("JPEG without end", "RGB", {}),
    "webp": ("WEBP", "RGBA", {"method": 0}),
    "webp without loss": ("WEBP", "RGBA", {"method": 0, "lossless": True, "quality": 0}),
    "jpeg 2000": ("JPEG2000", "RGB", {}),
    "heic": ("HEIF", "RGBA", {"quality": 50, "chroma": 444}),
    "avif": ("AVIF", "RGBA", {"speed": 10, "subsampling": "4:4:4"}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is asked for in the way of Linux")
@pytest.mark.parametrize("kind", BIG)
def test_decoding_a_big_image_takes_no_more_memory_than_it_asked_for(kind: str, tmp_path: Path) -> None:
    image_format, mode, options = BIG[kind]
    if image_format == "AVIF" and not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    side = 2000 if kind in ("tiff of 12 bits", "heic") else SIDE  # these are slow
    image = picture(side, side, "L" if mode == "I;16" else mode if mode != "P" else "RGB")
    if kind == "grey at the end":
        image.paste((128, 128, 128), (0, SIDE * 3 // 4, SIDE, SIDE))
    image = image.convert(mode)
    big, small = tmp_path / "big", tmp_path / "small"
    big.write_bytes(encoded_big(image, image_format, **options))
    small.write_bytes(encoded_big(image.resize((40, 40)), image_format, **options))
    code, output, errors = run_fork(PEAK, big, small)
    assert code == 0, errors
    asked, taken = map(int, output.split())
    assert taken <= asked + 24 * 2**20  # of bands, buffers of rows, and libraries loaded late
