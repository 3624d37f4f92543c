"""What cannot be used is refused with a typed error that names the image and the reason."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from clip_qdrant.errors import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    SourceError,
    TruncatedImage,
    UnsupportedImage,
)
from clip_qdrant.images.load import Limits, load_image


def encoded(image_format: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, image_format, **options)
    return file.getvalue()


def noise(image_format: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (160, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, image_format, **options)
    return file.getvalue()


def test_no_bytes_are_an_empty_image() -> None:
    with pytest.raises(EmptyImage, match=r"cat\.jpg has no bytes"):
        load_image(b"", name="cat.jpg")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3)])
def test_an_array_without_pixels_is_an_empty_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(EmptyImage):
        load_image(np.zeros(shape, np.uint8))


def test_a_pil_image_without_pixels_is_an_empty_image() -> None:
    with pytest.raises(EmptyImage, match="0 x 7"):
        load_image(Image.new("RGB", (0, 7)))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg width='1'>", "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"<html><body>", "HTML"),
        (b"Once upon a time there was a cat.", "text"),
        (b"BMW is a maker of cars, and this is text", "text"),
        (b'{"error": "forbidden"}', "JSON"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04" + bytes(20), "ZIP"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"\xff", "no known image format"),
        (bytes(1000), "no known image format"),
        (bytes(range(256)), "no known image format"),
    ],
)
def test_bytes_of_something_else_are_not_an_image_and_the_message_says_what(data: bytes, what: str) -> None:
    with pytest.raises(NotAnImage, match=what):
        load_image(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"8BPS\0\1" + bytes(20), "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\0\0\1\0\1\0" + bytes(20), "ICO"),
        (bytes((5, 0, 2, *bytes(9), 64, 0, 48, 0, 24, 32)) + bytes(20), "TGA"),
        (bytes((0, 1, 9, 0, 0, 0, 1, 24, *bytes(4), 64, 0, 48, 0, 8, 0)) + bytes(20), "TGA"),
        (b"\x01\xda\x01\x01\0\x03\0\x40\0\x30\0\x03" + bytes(20), "SGI"),
        (b"\x59\xa6\x6a\x95" + bytes(28), "Sun raster"),
        (b"\x0a\x05\x01\x08" + bytes(124), "PCX"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n", "Radiance"),
        (b"PF\n2 2\n-1.0\n" + bytes(48), "PFM"),
        (b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(12), "PAM"),
        (b"/* XPM */\nstatic char *picture[] = {", "XPM"),
        (b"#define im_width 8\n#define im_height 1\nstatic char im_bits[] = {0};", "XBM"),
        (b"SIMPLE  =                    T / file conforms to FITS", "FITS"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
        (b"\x8aMNG\r\n\x1a\n" + bytes(20), "MNG"),
        (b"BLP2\1\0\0\0" + bytes(20), "BLP"),
        (b"\x0eB\0\0\x12\xaf\1\0\x80\0\x80\0" + bytes(20), "FLIC"),
        (struct.pack("<LllHH", 40, 70, 46, 1, 24) + bytes(24), "bitmap without its header"),
        (b"Image type: RGB image\r\nName: cat\r\n", "IFUNC"),
        (b"gimp xcf v011\0" + bytes(20), "GIMP"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "camera raw"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "camera raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xda" + bytes(40), "JPEG-LS"),
    ],
)
def test_a_known_format_that_is_not_decoded_is_unsupported(data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedImage, match=what):
        load_image(data)


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"hevc\0\0\0\0hevcheic"])
def test_heic_without_a_decoder_is_unsupported_and_names_the_way_out(
    brands: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImage, match=r"pip install .clip-qdrant\[heic\]."):
        load_image(struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands)


def test_heic_with_a_registered_decoder_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL.PngImagePlugin import PngImageFile

    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    monkeypatch.setitem(
        Image.OPEN, "HEIF", (lambda file, name: PngImageFile(io.BytesIO(file.read()[len(head) :])), None)
    )
    assert load_image(head + encoded("PNG")).rgb.size == (64, 48)


def test_avif_without_a_decoder_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_qdrant.images.formats import open as decoders

    monkeypatch.setattr(decoders, "_load_plugin", lambda image_format: None)
    with pytest.raises(UnsupportedImage, match="AVIF"):
        load_image(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int64, np.bool_])
def test_an_array_that_is_not_uint8_is_unsupported(dtype: type) -> None:
    with pytest.raises(UnsupportedImage, match="uint8"):
        load_image(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3)])
def test_an_array_of_another_shape_is_unsupported(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedImage, match="shape"):
        load_image(np.zeros(shape, np.uint8))


def test_something_else_than_an_image_input_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="not int"):
        load_image(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[[-1.0, 0.5]], [[0.0, 1000.0]], [[float("nan"), 0.0]], [[float("inf"), 0.0]]])
def test_float_grey_without_an_agreed_range_is_unsupported(values: list[list[float]]) -> None:
    with pytest.raises(UnsupportedImage, match="grey values"):
        load_image(Image.fromarray(np.array(values, np.float32)))


def test_32_bit_grey_beyond_16_bits_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="grey values"):
        load_image(Image.new("I", (2, 2), 70_000))


def test_lab_pixels_are_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="LAB"):
        load_image(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG2000", {}),
        ("PPM", {}),
        ("AVIF", {}),
    ],
)
@pytest.mark.parametrize("target", [None, 8])
def test_an_image_cut_anywhere_is_refused_unless_every_pixel_is_there(
    image_format: str, options: dict[str, object], target: int | None
) -> None:
    if image_format == "AVIF" and not ("avif" in features.modules and features.check("avif")):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(image_format, **options)
    whole = load_image(data, target=target).rgb.tobytes()
    accepted = 0
    for end in sorted({*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 20, len(data))}):
        try:
            loaded = load_image(data[:end], target=target)
        except (TruncatedImage, NotAnImage):  # NotAnImage: the signature itself is cut
            assert end < len(data)
            continue
        assert loaded.rgb.tobytes() == whole, f"{end} of {len(data)} bytes gave a wrong picture"
        accepted += 1
    assert accepted == 0 or image_format in ("PNG", "GIF", "JPEG")  # only their end marker is missing
    assert accepted < (3 if image_format == "JPEG" else 25)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("target", [None, 20])
def test_a_jpeg_that_only_lacks_its_end_marker_is_whole(
    mode: str, options: dict[str, object], target: int | None
) -> None:
    data = noise("JPEG", mode, **options)
    whole = load_image(data, target=target).rgb.tobytes()
    assert data.endswith(b"\xff\xd9")
    for behind in (b"", b"\xff", b"more"):
        assert load_image(data[:-2] + behind, target=target).rgb.tobytes() == whole
    for end in (-4, -5, -20, -100):
        try:
            assert load_image(data[:end], target=target).rgb.tobytes() == whole  # the last bits of a scan may be idle
        except TruncatedImage:
            continue


@pytest.mark.parametrize("rows", [1, 2, 7, 31])
@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("colours", [4, 256])
def test_a_gif_whose_data_ends_early_as_if_it_were_whole_is_truncated(rows: int, interlace: int, colours: int) -> None:
    pixels = np.random.default_rng(0).integers(0, colours, (32, 20), dtype=np.uint8)

    def encode(height: int) -> bytearray:
        image = Image.fromarray(pixels[:height]).convert("P")
        image.putpalette(np.random.default_rng(1).integers(0, 255, 3 * colours, dtype=np.uint8).tobytes())
        file = io.BytesIO()
        image.save(file, "GIF", interlace=interlace, optimize=False)
        return bytearray(file.getvalue())

    assert load_image(bytes(encode(32))).rgb.size == (20, 32)
    data = encode(rows)
    struct.pack_into("<H", data, 8, 32)
    struct.pack_into("<H", data, data.index(struct.pack("<HHH", 0, 20, rows)) + 4, 32)
    with pytest.raises(TruncatedImage):
        load_image(bytes(data))


def test_a_jpeg_whose_second_half_is_zeros_is_truncated() -> None:
    data = encoded("JPEG", (320, 240))
    with pytest.raises(TruncatedImage):
        load_image(data[: len(data) // 2] + bytes(len(data) - len(data) // 2), target=16)


def test_a_truncated_jpeg_is_refused_also_where_another_library_has_told_pillow_to_accept_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = noise("JPEG")
    for end in (len(data) // 3, len(data) // 2, len(data) - 50):
        with pytest.raises(TruncatedImage):
            load_image(data[:end])
    assert load_image(data).rgb.size == (200, 160)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("target", [None, 20])
def test_a_jpeg_that_is_cut_and_closed_with_an_end_marker_is_truncated(
    mode: str, options: dict[str, object], target: int | None
) -> None:
    data = noise("JPEG", mode, **options)
    for end in range(len(data) // 3, len(data) - 100, len(data) // 9):
        with pytest.raises(TruncatedImage):
            load_image(data[:end].rstrip(b"\xff") + b"\xff\xd9", target=target)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 1}, {"quality": 100, "subsampling": 0}],
    ids=str,
)
@pytest.mark.parametrize("behind", [b"", bytes(100), b"more \xff\xd9 more"])
def test_a_jpeg_that_really_is_grey_at_its_end_is_accepted(
    mode: str, options: dict[str, object], behind: bytes
) -> None:
    grey = Image.new("RGB", (50, 40), (128, 128, 128))
    grey.paste((10, 200, 30), (0, 0, 50, 16))
    picture = Image.new("CMYK", grey.size, (127, 127, 127, 127)) if mode == "CMYK" else grey.convert(mode)
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    assert load_image(file.getvalue() + behind).rgb.size == (50, 40)


def test_a_lazily_opened_truncated_pil_image_is_truncated() -> None:
    data = encoded("JPEG")
    with pytest.raises(TruncatedImage):
        load_image(Image.open(io.BytesIO(data[:-50])))


def test_more_bytes_than_the_limit_are_too_large(tmp_path: Path) -> None:
    data = encoded("PNG")
    path = tmp_path / "big.png"
    path.write_bytes(data)
    limits = Limits(max_bytes=len(data) - 1)
    for source in (data, path):
        with pytest.raises(ImageTooLarge, match=str(len(data))):
            load_image(source, limits=limits)
    assert load_image(data, limits=Limits(max_bytes=len(data))).info.bytes == len(data)


def test_more_pixels_than_the_limit_are_too_large() -> None:
    for image in (encoded("JPEG"), Image.new("RGB", (64, 48)), np.zeros((48, 64, 3), np.uint8)):
        with pytest.raises(ImageTooLarge, match="64 x 48"):
            load_image(image, limits=Limits(max_pixels=64 * 48 - 1))
        load_image(image, limits=Limits(max_pixels=64 * 48))


def test_what_takes_more_memory_than_the_limit_while_it_is_decoded_is_too_large() -> None:
    data = encoded("WEBP")
    assert load_image(data, limits=Limits(max_decoding_bytes=64 * 48 * 12)).rgb.size == (64, 48)
    with pytest.raises(ImageTooLarge, match=f"WEBP of 64 x 48 pixels, takes {64 * 48 * 12} bytes"):
        load_image(data, limits=Limits(max_decoding_bytes=64 * 48 * 12 - 1))


def test_the_limit_of_pixels_lets_a_webp_of_that_size_in() -> None:
    """Pillow refuses one over twice its own limit, which is below ours."""
    file = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(file, "WEBP", lossless=True, method=0)
    data = bytearray(file.getvalue())
    at = data.index(b"VP8L") + 9
    struct.pack_into("<L", data, at, (14_000 - 1) | (14_000 - 1) << 14)  # of which the data behind holds a part
    asked: list[int] = []

    def admit(size: int) -> contextlib.AbstractContextManager[None]:
        asked.append(size)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        load_image(bytes(data), target=16, admit=admit)
    assert asked == [14_000 * 14_000 * 12]
    struct.pack_into("<L", data, at, (14_200 - 1) | (14_200 - 1) << 14)
    with pytest.raises(ImageTooLarge, match="14200 x 14200 pixels; the limit is 200000000"):
        load_image(bytes(data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def test_a_decompression_bomb_is_refused_by_its_header_without_decoding() -> None:
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        load_image(png_bomb(60_000, 60_000))


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG"])
def test_our_limit_holds_and_not_pillows(image_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here: with Pillow's limit just passed, its warning must not come through."""
    data = encoded(image_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    assert load_image(data).rgb.size == (64, 48)


def test_a_gif_whose_frame_is_larger_than_its_screen_is_measured_by_the_frame() -> None:
    data = bytearray(encoded("GIF"))
    struct.pack_into("<HH", data, 6, 1, 1)  # the screen; the frame stays 64 x 48
    with pytest.raises(ImageTooLarge, match="64 x 48"):
        load_image(bytes(data), limits=Limits(max_pixels=1000))


def test_pillow_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    load_image(encoded("GIF"))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_a_missing_file_and_a_folder_are_source_errors_that_name_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(SourceError, match=str(path)):
            load_image(path)
    with pytest.raises(SourceError):
        load_image("a\0b.jpg")


def test_an_unreadable_file_is_a_source_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded("PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(SourceError, match="secret"):
        load_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_a_source_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(SourceError, match="regular file"):
        load_image(tmp_path / "pipe.jpg")


def test_every_refusal_names_the_image_and_has_a_reason() -> None:
    cases = [b"", b"text that is no image", encoded("PNG")[:200], b"8BPS" + bytes(20), png_bomb(60_000, 60_000)]
    reasons = set()
    for data in cases:
        with pytest.raises(ImageError, match=r"holiday/cat\.jpg") as caught:
            load_image(data, name="holiday/cat.jpg")
        reasons.add(caught.value.reason)
    assert reasons == {"empty", "not an image", "truncated", "unsupported", "too large"}
