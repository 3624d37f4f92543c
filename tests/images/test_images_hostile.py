"""Damaged bytes give a picture or an ImageError, whatever Pillow makes of them."""

from __future__ import annotations

import functools
import io
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from clip_qdrant.errors import ImageError
from clip_qdrant.images.load import Limits, load_image


@functools.cache
def samples() -> dict[str, bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x9003: "2020:01:02 03:04:05", 0x9011: "+02:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 1.5), 3: "E", 4: (11.0, 34.0, 0.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = [image.rotate(90), image.rotate(180)]
    cases = {
        "jpeg": (image, "JPEG", {"exif": exif, "icc_profile": profile}),
        "progressive": (image, "JPEG", {"progressive": True}),
        "cmyk": (image.convert("CMYK"), "JPEG", {}),
        "png": (image, "PNG", {"exif": exif, "icc_profile": profile}),
        "palette": (image.convert("P"), "PNG", {"transparency": 3}),
        "16 bit": (Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300), "PNG", {}),
        "apng": (image, "PNG", {"save_all": True, "append_images": frames}),
        "webp": (image, "WEBP", {"exif": exif}),
        "webp lossless": (image.convert("RGBA"), "WEBP", {"lossless": True}),
        "gif": (image, "GIF", {"save_all": True, "append_images": frames, "transparency": 1}),
        "bmp": (image, "BMP", {}),
        "tiff": (image, "TIFF", {"exif": exif}),
        "tiff lzw": (image, "TIFF", {"compression": "tiff_lzw"}),
        "tiff float": (Image.fromarray(np.ones((12, 16), np.float32)), "TIFF", {}),
        "ppm": (image, "PPM", {}),
        "jpeg 2000": (image, "JPEG2000", {}),
    }
    encoded = {}
    for name, (picture, image_format, options) in cases.items():
        file = io.BytesIO()
        picture.save(file, image_format, **options)
        encoded[name] = file.getvalue()
    return encoded


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True], ids=["warnings are shown", "warnings are errors"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_and_cut_bytes_give_a_picture_or_an_image_error(strict: bool, data: st.DataObject) -> None:
    damaged = bytearray(samples()[data.draw(st.sampled_from(sorted(samples())))])
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.sampled_from((0, 1, 127, 128, 255)))
    start = data.draw(st.sampled_from((0, 0, 0, 0, 1, 7)))
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            loaded = load_image(
                bytes(damaged[start:end]),
                target=data.draw(st.sampled_from((None, 1, 4, 224))),
                limits=Limits(max_pixels=1_000_000),
            )
        except ImageError:
            return
    assert loaded.rgb.mode == "RGB"
    assert loaded.info.width * loaded.info.height <= 1_000_000
    assert len(loaded.info.phash) == 16


@settings(max_examples=300, deadline=None)
@given(
    head=st.sampled_from(
        [sample[:40] for sample in samples().values()] + [b"", b"\0\0\0\x20ftypavif", b"\0\0\0\x20ftypheic"]
    ),
    body=st.binary(max_size=400),
)
def test_any_bytes_behind_a_good_signature_give_a_picture_or_an_image_error(head: bytes, body: bytes) -> None:
    try:
        loaded = load_image(head + body, limits=Limits(max_pixels=1_000_000))
    except ImageError:
        return
    assert loaded.rgb.mode == "RGB"
