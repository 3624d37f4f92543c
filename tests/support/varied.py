"""27 images and 40 texts of the kinds that tell one library's preprocessing from another's, for tests of parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

__all__ = ["VARIED_TEXTS", "read_upright", "varied_images"]

_PHOTOS = [
    (640, 427),
    (427, 640),
    (500, 333),
    (333, 500),
    (301, 207),
    (225, 224),
    (224, 225),
    (224, 224),
    (257, 255),
    (1023, 767),
    (96, 31),
]
_LARGE = [(2401, 1603), (1500, 2003), (3001, 1001)]

VARIED_TEXTS = [
    "",
    " ",
    " \t \n ",
    "a",
    "a dog",
    "two cats",
    "A DOG",
    "A Photo Of Two Cats",
    "  leading and trailing blanks  ",
    "blanks    in\tbetween",
    "first line\nsecond line",
    "a dog\r\nin the snow",
    "dog " * 300,
    "two cats on a red sofa, " * 60,
    "x" * 2000,
    "the quick brown fox jumps over the lazy dog. " * 40 + "THE END",
    "a dog \U0001f415 in the snow",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 at the sea",
    "caf\u00e9 cr\u00e8me",
    "cafe\u0301",
    "Stra\u00dfe, \u00c4pfel und \u00d6l",
    "\u4e00\u53ea\u72d7\u5728\u96ea\u5730\u91cc",
    "\u732b\u3068\u72ac",
    "\uace0\uc591\uc774",
    "\u0441\u043e\u0431\u0430\u043a\u0430 \u043d\u0430 \u0441\u043d\u0435\u0433\u0443",
    "\u0643\u0644\u0628 \u0641\u064a \u0627\u0644\u062b\u0644\u062c",
    "3.5 m apart: 2 cats & 1 dog @ 50 %",
    "don't STOP!! it's John's... (really?)",
    "a-b_c/d\\e",
    "e-mail: nobody@example.org, https://example.org/a?b=c",
    "&amp; &lt;b&gt;",
    "<b>bold</b>",
    "<|endoftext|>",
    "a dog <|endoftext|> a cat",
    "<|startoftext|>a dog",
    "a dog<eos>and <pad> a <bos>cat",
    "</s> a dog <s>",
    "[CLS] a dog [SEP] a cat [MASK] [PAD]",
    "\u2581a dog\u2581 \x00\x07 \ufeff end",
]


def varied_images(folder: Path) -> list[Path]:
    """27 files: odd sizes, grey, palettes, transparency, EXIF orientations, tiny and thin ones, large JPEGs."""
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []

    def save(name: str, image: Image.Image, **options: Any) -> None:
        image.save(folder / name, **options)
        made.append(folder / name)

    for width, height in _PHOTOS:
        save(f"photo-{width}x{height}.jpg", _draw(rng, width, height), quality=92)
    for width, height in _LARGE:
        save(f"large-{width}x{height}.jpg", _draw(rng, width, height), quality=90)
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"turned-{orientation}.jpg", _draw(rng, 1403, 905), exif=exif)
    save("grey.png", _draw(rng, 310, 233).convert("L"))
    save("palette.png", _draw(rng, 280, 190).quantize(64))
    transparent = _draw(rng, 300, 260)
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    save("transparent.png", transparent)
    save("20x20.png", _draw(rng, 20, 20))
    save("1x1.png", Image.new("RGB", (1, 1), (200, 30, 90)))
    save("4000x100.png", _draw(rng, 4000, 100), compress_level=1)
    save("100x1500.png", _draw(rng, 100, 1500), compress_level=1)
    save("3x7.png", _draw(rng, 3, 7))
    save("white.png", Image.new("RGB", (120, 80), (255, 255, 255)))
    save("1701x1133.png", _draw(rng, 1701, 1133), compress_level=1)
    assert len(made) == 27, len(made)
    return made


def read_upright(path: Path) -> Image.Image:
    """What a reference gets: the whole image by Pillow alone, upright, transparency on white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _draw(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A picture with soft areas, hard edges, fine lines and a little noise, as photos have."""
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = rng.uniform(-0.1, 0.9, 2)
        wide, high = rng.uniform(0.05, 0.4, 2)
        box = (left * width, top * height, (left + wide) * width + 1, (top + high) * height + 1)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour)
    for _ in range(6):
        ends = rng.uniform(0, 1, 4) * (width, height, width, height)
        draw.line(tuple(float(end) for end in ends), fill=(20, 20, 20), width=max(1, width // 150))
    noise = rng.integers(-8, 9, (height, width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255).astype(np.uint8))
