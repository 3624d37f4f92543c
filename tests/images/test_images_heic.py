"""HEIC is decoded by the extra `heic`, which need not be registered."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_qdrant.errors import ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage
from clip_qdrant.images.load import Limits, load_image

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")


def heic(size: tuple[int, int] = (96, 64), mode: str = "RGB", **options: object) -> bytes:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    pixels = np.stack([x * 255 // (size[0] - 1), y * 255 // (size[1] - 1), np.full_like(x, 60)], axis=2)
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels.astype(np.uint8)).convert(mode)).save(file, quality=90, **options)
    return file.getvalue()


def test_heic_is_decoded_and_pillow_stays_as_it_was() -> None:
    before = dict(Image.OPEN)
    loaded = load_image(heic())
    assert (loaded.info.format, loaded.info.width, loaded.info.height) == ("HEIC", 96, 64)
    assert np.abs(np.subtract(loaded.rgb.getpixel((95, 0)), (255, 0, 60))).max() < 12
    assert before == Image.OPEN


def test_a_turned_heic_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(heic(exif=exif.tobytes()))
    assert (loaded.info.width, loaded.info.height) == (64, 96)
    assert np.abs(np.subtract(loaded.rgb.getpixel((63, 95)), (255, 0, 60))).max() < 12


def test_transparent_heic_is_laid_on_white() -> None:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGBA", (64, 64), (255, 0, 0, 0))).save(file, quality=-1)
    assert load_image(file.getvalue()).rgb.getpixel((5, 5)) == (255, 255, 255)


def test_a_damaged_or_large_heic_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data = heic()
    for end in (30, len(data) // 2, len(data) - 10):
        with pytest.raises((TruncatedImage, UnsupportedImage)):
            load_image(data[:end])
    for at in range(0, len(data), 37):
        try:
            load_image(data[:at] + b"\xff\0\x80" + data[at + 3 :])
        except ImageError:
            continue
    with pytest.raises(ImageTooLarge):
        load_image(data, limits=Limits(max_pixels=96 * 64 - 1))
    assert capfd.readouterr() == ("", "")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.heic").write_bytes(heic())
    with pytest.raises(UnsupportedImage, match=r"a\.heic .*pip install 'clip-qdrant\[heic\]'"):
        load_image(tmp_path / "a.heic")
