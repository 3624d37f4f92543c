"""Photos as large as a camera's, made of small ones: for measuring where decoding dominates.

    python benchmarks/images.py PHOTOS_FOLDER OUT_FOLDER [--megapixels 12] [--count 200]

Each photo is enlarged to 4:3, gets the noise of a sensor, without which a JPEG of it would be far too small, and is
saved with quality 90: 0.36 bytes a pixel, 4.3 MB at 12 megapixels. The same arguments make the same bytes, as long as
Pillow and its JPEG library stay the same. More images than photos: the photos again, with other noise.
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from clip_qdrant.runtime import cpu_count

NOISE = 9.0  # standard deviation, of 255 levels
TILE = 1024  # side of the noise in pixels; every image starts elsewhere in it
QUALITY = 90


def enlarged(photo: Path, size: tuple[int, int], noise: np.ndarray, *, seed: int) -> Image.Image:
    """A photo scaled to (width, height), with noise of its own."""
    with Image.open(photo) as image:
        rgb = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    start = np.random.default_rng(seed).integers(0, TILE, 2)
    rows, columns = ((first + np.arange(length)) % TILE for first, length in zip(start, rgb.shape[:2], strict=True))
    grain = noise[np.ix_(rows, columns)][..., None]  # the same for all channels: brightness
    return Image.fromarray(np.clip(rgb + grain, 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()

    photos = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        parser.error(f"{options.photos} has no .jpg, .jpeg or .png files")
    unit = math.sqrt(options.megapixels * 1e6 / 12)
    size = (round(4 * unit), round(3 * unit))
    noise = np.random.default_rng(0).normal(0, NOISE, (TILE, TILE)).round().astype(np.int16)
    options.out.mkdir(parents=True, exist_ok=True)

    def make(number: int) -> int:
        path = options.out / f"{number:06d}.jpg"
        enlarged(photos[number % len(photos)], size, noise, seed=number).save(path, quality=QUALITY)
        return int(path.stat().st_size)

    with ThreadPoolExecutor(cpu_count()) as pool:
        sizes = list(pool.map(make, range(options.count)))
    mean, smallest, largest = (value / 1e6 for value in (np.mean(sizes), min(sizes), max(sizes)))
    Console().print(
        f"{len(sizes)} images of {size[0]}x{size[1]} in {options.out}: "
        f"{mean:.2f} MB each, {smallest:.2f} to {largest:.2f}"
    )


if __name__ == "__main__":
    main()
