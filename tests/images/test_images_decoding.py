"""Every kind of image that is accepted comes out as the same upright RGB picture."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from clip_qdrant.images.load import load_image
from clip_qdrant.uris import to_uri

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth, and different in every corner, so that a turn or a flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.mode == other.mode == "RGB"
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.int32) - np.asarray(other, np.int32)).mean())


@pytest.mark.parametrize(
    ("image_format", "tolerance"),
    [
        ("PNG", 0),
        ("BMP", 0),
        ("TIFF", 0),
        ("PPM", 0),
        ("WEBP", 3),
        ("JPEG", 3),
        ("JPEG2000", 3),
        ("GIF", 40),
        ("AVIF", 3),
    ],
)
def test_every_common_format_decodes_to_the_same_picture(image_format: str, tolerance: float) -> None:
    if image_format == "AVIF" and not ("avif" in features.modules and features.check("avif")):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(picture(), image_format)
    loaded = load_image(data)
    assert difference(loaded.rgb, picture()) <= tolerance
    info = loaded.info
    assert (info.width, info.height, info.format, info.bytes) == (96, 64, image_format, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()


def test_a_path_a_file_uri_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a b é%41.png"
    path.write_bytes(encoded(picture(), "PNG"))
    results = [load_image(source) for source in (path, str(path), to_uri(path), path.read_bytes())]
    assert all(result.info == results[0].info for result in results)


def test_a_pil_image_and_its_array_give_the_same() -> None:
    image = picture()
    from_image, from_array = load_image(image), load_image(np.asarray(image))
    assert from_image.info == from_array.info
    assert from_array.info.format == "RAW"
    assert from_array.info.bytes == np.asarray(image).nbytes
    assert difference(from_array.rgb, image) == 0


def test_the_hash_of_an_array_tells_shapes_apart() -> None:
    tall, wide = np.zeros((4, 2), np.uint8), np.zeros((2, 4), np.uint8)
    hashes = {load_image(array).info.sha256 for array in (tall, wide, np.zeros((2, 4, 1), np.uint8), wide + 1)}
    assert len(hashes) == 3


def test_a_pil_image_is_not_changed() -> None:
    image = Image.open(io.BytesIO(encoded(picture(960, 640), "JPEG")))
    load_image(image, target=100)
    assert image.size == (960, 640)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("target", [None, 16])
def test_each_of_the_eight_orientations_is_made_upright(
    orientation: int, image_format: str, target: int | None
) -> None:
    inverse: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda im: im,
        2: lambda im: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda im: im.transpose(Image.Transpose.ROTATE_180),
        4: lambda im: im.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda im: im.transpose(Image.Transpose.TRANSPOSE),
        6: lambda im: im.transpose(Image.Transpose.ROTATE_90),
        7: lambda im: im.transpose(Image.Transpose.TRANSVERSE),
        8: lambda im: im.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(encoded(inverse[orientation](picture()), image_format, exif=exif), target=target)
    assert (loaded.info.width, loaded.info.height) == (96, 64)
    assert difference(loaded.rgb, picture().resize(loaded.rgb.size, Image.Resampling.BOX)) < 4


def test_transparent_pixels_are_laid_on_white() -> None:
    rgba = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 4, 8))
    grey = Image.merge("LA", (Image.new("L", (8, 8), 0), rgba.getchannel("A")))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 4, 8))
    cases = [
        (load_image(rgba), RED),
        (load_image(np.asarray(rgba)), RED),
        (load_image(encoded(rgba, "PNG")), RED),
        (load_image(encoded(rgba, "WEBP", lossless=True)), RED),
        (load_image(encoded(rgba, "TIFF")), RED),
        (load_image(grey), BLACK),
        (load_image(encoded(grey, "PNG")), BLACK),
        (load_image(rgba.convert("PA") if "PA" in Image.MODES else rgba), RED),
        (load_image(encoded(palette, "PNG", transparency=1)), RED),
        (load_image(encoded(palette, "GIF", transparency=1)), RED),
        (load_image(encoded(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED)), WHITE),
        (load_image(encoded(Image.new("L", (8, 8), 7), "PNG", transparency=7)), WHITE),
    ]
    for number, (loaded, opaque) in enumerate(cases):
        assert loaded.rgb.getpixel((0, 0)) == opaque, number
        assert loaded.rgb.getpixel((7, 7)) == (WHITE if number < 10 else opaque), number


def test_half_transparent_red_on_white_is_pink() -> None:
    loaded = load_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"))
    assert loaded.rgb.getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(image_format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65278, 65535]], np.uint16)
    rgb = load_image(encoded(Image.fromarray(values), image_format)).rgb
    assert [rgb.getpixel((x, 0))[0] for x in range(7)] == [0, 0, 1, 1, 128, 254, 255]


def test_16_bit_big_endian_tiff_is_scaled() -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 0, 65535))
    rgb = load_image(image).rgb
    assert (rgb.getpixel((0, 0)), rgb.getpixel((1, 0))) == (BLACK, WHITE)


def test_16_bit_colour_png_is_scaled() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">3H", 65535, 32896, 0)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert load_image(data).rgb.getpixel((0, 0)) == (255, 128, 0)


def test_float_grey_of_0_to_1_and_of_0_to_255_are_scaled() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], np.float32)
    for values in (unit, unit * 255):
        rgb = load_image(encoded(Image.fromarray(values), "TIFF")).rgb
        assert [rgb.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "RGBX", "I", "F", "I;16"])
def test_a_white_image_of_any_mode_is_white(mode: str) -> None:
    white = Image.new("RGB", (5, 4), WHITE)
    if mode in ("I", "I;16"):
        image = Image.new(mode, (5, 4), 65535)
    elif mode == "F":
        image = Image.new(mode, (5, 4), 1.0)
    else:
        image = white.convert(mode)
    assert difference(load_image(image).rgb, white) == 0


def test_a_cmyk_jpeg_with_inverted_values_keeps_its_colours() -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(np.subtract(load_image(data).rgb.getpixel((8, 8)), (200, 30, 30))).max() < 6


def swapped_profile() -> bytes:
    """sRGB with red and green exchanged: a profile whose effect cannot be overlooked."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * struct.unpack_from(">I", profile, 128)[0], 12):
        tag = bytes(profile[at : at + 4])
        if tag in (b"rXYZ", b"gXYZ"):
            profile[at : at + 4] = b"gXYZ" if tag == b"rXYZ" else b"rXYZ"
        elif tag == b"desc":
            start, size = struct.unpack_from(">II", profile, at + 4)
            text = bytes(profile[start : start + size])
            for name in (b"sRGB", "sRGB".encode("utf-16-be")):
                text = text.replace(name, name.replace(b"R", b"X"))
            profile[start : start + size] = text
    return bytes(profile)


def test_an_embedded_colour_profile_is_converted_to_srgb() -> None:
    green = Image.new("RGB", (16, 16), (0, 255, 0))
    for image_format in ("PNG", "JPEG", "WEBP", "TIFF"):
        red, *_ = [load_image(encoded(green, image_format, icc_profile=swapped_profile())).rgb.getpixel((8, 8))]
        assert np.abs(np.subtract(red, RED)).max() < 12, image_format


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(load_image(encoded(picture(), "PNG", icc_profile=profile)).rgb, picture()) == 0


@pytest.mark.parametrize("profile", [b"rubbish", swapped_profile()[:200], b"\0" * 500])
def test_a_broken_colour_profile_is_ignored(profile: bytes) -> None:
    assert difference(load_image(encoded(picture(), "PNG", icc_profile=profile)).rgb, picture()) == 0


@pytest.mark.parametrize(("megabytes", "colour"), [(3, RED), (5, (0, 255, 0))])
def test_a_colour_profile_of_more_than_four_megabytes_is_ignored(megabytes: int, colour: tuple[int, int, int]) -> None:
    profile = swapped_profile() + bytes(megabytes << 20)
    data = encoded(Image.new("RGB", (4, 4), (0, 255, 0)), "TIFF", icc_profile=profile)
    assert np.abs(np.subtract(load_image(data).rgb.getpixel((0, 0)), colour)).max() < 12


def test_a_profile_for_another_kind_of_pixels_is_ignored() -> None:
    data = encoded(Image.new("L", (4, 4), 200), "PNG", icc_profile=swapped_profile())
    assert load_image(data).rgb.getpixel((0, 0)) == (200, 200, 200)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(image_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLACK, WHITE)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert load_image(data).rgb.getpixel((4, 4)) == RED


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(1200, 800), (801, 2401), (223, 999), (224, 224), (225, 3000), (40, 30)])
def test_a_big_image_comes_near_its_target_and_never_below(image_format: str, size: tuple[int, int]) -> None:
    loaded = load_image(encoded(picture(*size), image_format), target=224)
    assert (loaded.info.width, loaded.info.height) == size
    short, original = min(loaded.rgb.size), min(size)
    assert min(224, original) <= short <= max(4 * 224, 0)
    assert abs(loaded.rgb.width / loaded.rgb.height - size[0] / size[1]) < 0.05 * size[0] / size[1]
    assert difference(loaded.rgb, picture(*size).resize(loaded.rgb.size, Image.Resampling.BOX)) < 5


def test_without_a_target_nothing_is_reduced() -> None:
    assert load_image(encoded(picture(1200, 800), "JPEG")).rgb.size == (1200, 800)


def test_a_24_megapixel_photo_is_decoded_at_an_eighth() -> None:
    loaded = load_image(encoded(picture(600, 400).resize((6000, 4000)), "JPEG"), target=224)
    assert loaded.rgb.size == (750, 500)
    assert (loaded.info.width, loaded.info.height) == (6000, 4000)


def test_a_jpeg_with_a_second_picture_inside_is_decoded() -> None:
    data = encoded(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64), RED)])
    loaded = load_image(data, target=20)
    assert loaded.info.format == "JPEG"
    assert difference(loaded.rgb, picture().resize(loaded.rgb.size, Image.Resampling.BOX)) < 4
