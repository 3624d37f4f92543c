"""A TIFF gives the page that is the picture, in the range of its own samples, or is refused; and nothing is printed."""

from __future__ import annotations

import ctypes
import io
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiffs import make_tiff, pack_bits

from clip_qdrant.errors import ImageError, TruncatedImage, UnsupportedImage
from clip_qdrant.images.formats import libtiff
from clip_qdrant.images.load import load_image

DEFLATE, JPEG_2000, WEBP = 8, 34712, 50001
KNOWS_LIBTIFF = libtiff._install_handler() is not None


def tags(
    width: int, height: int, bits: int = 8, samples: int = 1, **more: int | list[int]
) -> dict[int, int | list[int]]:
    names = {"compression": 259, "photometric": 262, "rows": 278, "kind": 254, "extra": 338, "planar": 284}
    photometric = 2 if samples >= 3 else 1
    found = {256: width, 257: height, 258: [bits] * samples, 259: 1, 262: photometric, 277: samples, 278: height}
    return {**found, **{names[name]: value for name, value in more.items()}}


def grey(data: bytes) -> list[int]:
    return np.asarray(load_image(data).rgb)[0, :, 0].tolist()


@pytest.mark.parametrize("bits", [3, 6, 10, 12, 14, 15])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, DEFLATE])
def test_samples_are_scaled_by_the_range_of_their_bits(bits: int, order: str, compression: int) -> None:
    top = (1 << bits) - 1
    samples = np.array([[0, top // 4, top // 2, top, 0]] * 3)
    strip = pack_bits(samples, bits)
    strip = zlib.compress(strip) if compression == DEFLATE else strip
    data = make_tiff((tags(5, 3, bits, compression=compression), [strip]), order=order)
    assert grey(data) == [round(value * 255 / top) for value in samples[0].tolist()]
    inverted = make_tiff((tags(5, 3, bits, compression=compression, photometric=0), [strip]), order=order)
    assert grey(inverted) == [255 - value for value in grey(data)]


@pytest.mark.parametrize("bits", [10, 12])
def test_colours_of_more_than_8_bits_and_their_transparency_are_scaled_too(bits: int) -> None:
    top = (1 << bits) - 1
    pixels = np.array([[[top, 0, top // 2, top], [0, top, 0, 0]]] * 2)
    colours = make_tiff((tags(2, 2, bits, 3), [pack_bits(pixels[..., :3].reshape(2, -1), bits)]))
    assert load_image(colours).rgb.getpixel((0, 0)) == (255, 0, 127)
    assert load_image(colours).rgb.getpixel((1, 0)) == (0, 255, 0)
    transparent = make_tiff((tags(2, 2, bits, 4, extra=2), [pack_bits(pixels.reshape(2, -1), bits)]))
    assert load_image(transparent).rgb.getpixel((0, 0)) == (255, 0, 127)
    assert load_image(transparent).rgb.getpixel((1, 0)) == (255, 255, 255)


def test_tiles_of_12_bits_are_joined() -> None:
    samples = np.arange(32 * 16).reshape(16, 32) * 8
    tiles = [pack_bits(samples[:, left : left + 16], 12) for left in (0, 16)]
    data = make_tiff(({**tags(32, 16, 12), 322: 16, 323: 16}, tiles))
    assert np.abs(np.asarray(load_image(data).rgb)[..., 0] - samples * 255 / 4095).max() <= 0.5


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_in_which_white_is_zero_is_turned_over(order: str) -> None:
    row = np.array([[0, 32768, 65535]], np.uint16).astype(order + "u2")
    assert grey(make_tiff((tags(3, 1, 16, photometric=0), [row.tobytes()]), order=order)) == [255, 127, 0]


SMALL = (tags(2, 2, kind=1), [bytes(4)])
BIG = (tags(30, 20), [bytes([200]) * 600])


def test_a_first_page_that_is_a_reduced_copy_gives_way_to_the_full_page() -> None:
    assert load_image(make_tiff(SMALL, BIG)).info.width == 30
    assert load_image(make_tiff(BIG, SMALL)).info.width == 30
    assert load_image(make_tiff(SMALL, sub_pages=[BIG])).info.width == 30
    mask = (tags(60, 40, kind=4), [bytes(2400)])
    assert load_image(make_tiff(SMALL, mask, BIG)).info.width == 30
    old_style = ({**tags(2, 2), 255: 2}, [bytes(4)])
    assert load_image(make_tiff(old_style, BIG)).info.width == 30


def test_the_first_of_several_full_pages_is_the_picture() -> None:
    assert load_image(make_tiff((tags(2, 2), [bytes(4)]), BIG)).info.width == 2


def test_reduced_copies_of_what_is_not_decoded_give_the_largest_of_them() -> None:
    raw = (tags(90, 60, photometric=32803), [bytes(5400)])  # from the sensor of a camera
    middle = (tags(9, 6, kind=1), [bytes(54)])
    assert load_image(make_tiff(SMALL, sub_pages=[raw, middle])).info.width == 9


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, DEFLATE])
def test_bigtiff_is_read(order: str, compression: int) -> None:
    rows = np.arange(30 * 20, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    strip = zlib.compress(rows.tobytes()) if compression == DEFLATE else rows.tobytes()
    loaded = load_image(make_tiff((tags(30, 20, compression=compression), [strip]), order=order, big=True))
    assert np.array_equal(np.asarray(loaded.rgb)[..., 0], rows)


@pytest.mark.parametrize("compression", [1, DEFLATE])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_tiff_with_fewer_strips_or_tiles_than_its_size_needs_is_truncated(compression: int, tiled: bool) -> None:
    block = bytes([200]) * 256
    block = zlib.compress(block) if compression == DEFLATE else block
    whole = tags(16, 48, compression=compression, rows=16)
    if tiled:
        whole |= {322: 16, 323: 16}
    assert load_image(make_tiff((whole, [block] * 3))).rgb.getpixel((0, 47)) == (200, 200, 200)
    for there in (1, 2):
        with pytest.raises(TruncatedImage, match=f"{there} of the 3 strips or tiles"):
            load_image(make_tiff((whole, [block] * there)))


def test_a_plane_that_means_nothing_may_be_missing() -> None:
    plane = zlib.compress(bytes([200]) * 256)
    of_two = tags(16, 16, samples=2, compression=DEFLATE, planar=2, extra=0)
    assert (
        load_image(make_tiff(({**of_two, 273: [8, 0], 279: [len(plane), 0]}, [plane]))).rgb.getpixel((9, 9))[0] == 200
    )


def test_more_samples_than_are_decoded_are_unsupported(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnsupportedImage, match="7 samples"):
        load_image(make_tiff((tags(2, 2, samples=7), [bytes(28)])))
    assert caplog.records == []


def test_a_strip_that_is_not_in_the_file_is_told() -> None:
    data = make_tiff((tags(16, 48, rows=16), [bytes(256)] * 3))
    first = data.index(struct.pack("<LLL", 8, 264, 520))
    for place in (0, len(data), 0xFFFFFFF0):
        with pytest.raises(TruncatedImage, match="strip or tile 1 of the TIFF"):
            load_image(data[: first + 4] + struct.pack("<L", place) + data[first + 8 :])


@pytest.mark.parametrize("compression", [JPEG_2000, 34892, 12345])
def test_a_compression_that_is_not_decoded_is_unsupported(compression: int) -> None:
    with pytest.raises(UnsupportedImage, match="compression"):
        load_image(make_tiff((tags(4, 4, compression=compression), [bytes(16)])))


@pytest.mark.skipif(not KNOWS_LIBTIFF, reason="the libtiff of this Pillow cannot be reached")
def test_webp_in_a_tiff_is_decoded_or_unsupported_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    webp = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(webp, "WEBP", lossless=True)
    try:
        load_image(make_tiff((tags(16, 16, samples=3, compression=WEBP), [webp.getvalue()])))
    except UnsupportedImage as error:
        assert "WEBP" in str(error)
    assert capfd.readouterr() == ("", "")


def damaged_fax() -> bytes:
    """A fax picture with zeros in its middle: its decoder tells of code words that there are not, and paints on."""
    picture = Image.new("L", (400, 400), 255)
    picture.paste(Image.effect_mandelbrot((300, 300), (-2, -1, 1, 1), 50), (50, 50))
    file = io.BytesIO()
    picture.convert("1").save(file, "TIFF", compression="group4")
    data = bytearray(file.getvalue())
    data[100:103] = bytes(3)
    return bytes(data)


@pytest.mark.skipif(not KNOWS_LIBTIFF, reason="the libtiff of this Pillow cannot be reached")
def test_what_libtiff_tells_of_bad_data_refuses_the_picture_and_is_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(TruncatedImage, match=r"damaged: .*[Cc]ode"):
        load_image(damaged_fax())
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not KNOWS_LIBTIFF, reason="the libtiff of this Pillow cannot be reached")
def test_what_others_decode_with_pillow_is_printed_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    load_image(make_tiff((tags(2, 2, compression=DEFLATE), [zlib.compress(bytes(4))])))
    Image.open(io.BytesIO(damaged_fax())).load()
    assert "code word" in capfd.readouterr().err


@pytest.mark.skipif(not KNOWS_LIBTIFF, reason="the libtiff of this Pillow cannot be reached")
def test_threads_hear_of_their_own_pictures_alone() -> None:
    good = make_tiff((tags(300, 300, compression=DEFLATE), [zlib.compress(bytes(90_000))]))
    files = [damaged_fax(), good] * 40

    def load(data: bytes) -> bool:
        try:
            load_image(data)
        except ImageError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, files)) == [False, True] * 40


@pytest.mark.skipif(not KNOWS_LIBTIFF, reason="the libtiff of this Pillow cannot be reached")
def test_threads_that_come_at_once_put_in_one_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, one would be freed while libtiff calls it: the process ends by a signal."""
    load_library = ctypes.CDLL

    def load_slowly(name: str | None) -> ctypes.CDLL:
        time.sleep(0.02)
        return load_library(name)

    monkeypatch.setattr(ctypes, "CDLL", load_slowly)
    libtiff._make_handler.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        handlers = list(pool.map(lambda _: libtiff._install_handler(), range(8)))
    assert len({id(handler) for handler in handlers}) == 1
    with pytest.raises(TruncatedImage):
        load_image(damaged_fax())


def test_odd_tags_make_nobody_warn() -> None:
    """Warnings are errors here, and Pillow warns of each of these."""
    double = make_tiff(({**tags(2, 2), 284: [1, 1], 296: [2, 2]}, [bytes(4)]))
    assert load_image(double).rgb.size == (2, 2)
    nowhere = make_tiff(({**tags(2, 2), 270: list(range(9)), 0x8769: [60_000, 0]}, [bytes(4)]))
    at = nowhere.index(struct.pack("<HH", 270, 3)) + 8
    assert load_image(nowhere[:at] + struct.pack("<L", 1 << 30) + nowhere[at + 4 :]).rgb.size == (2, 2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_the_orientation_is_that_of_the_page_or_of_the_first(order: str, big: bool) -> None:
    small, full = ({**SMALL[0], 274: 6}, SMALL[1]), BIG
    assert load_image(make_tiff(small, full, order=order, big=big)).info.width == 20
    upright = ({**full[0], 274: 1}, full[1])
    assert load_image(make_tiff(small, upright, order=order, big=big)).info.width == 30


@pytest.mark.skipif(sys.platform == "win32", reason="paths")
def test_a_path_gives_what_bytes_give(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(make_tiff(SMALL, BIG))
    assert load_image(path).info == load_image(path.read_bytes()).info
