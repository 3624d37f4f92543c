"""How much recall is lost when photos are blurred, cropped, turned, grey or compressed, and captions have a typo."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageStat

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.images.load import load_image
from clip_qdrant_training.data.read import Pair, image_input, image_name
from clip_qdrant_training.evaluation.recall import embed_pairs, owners, recall

__all__ = ["IMAGE_CHANGES", "robustness", "with_typo"]

_CROP = 0.7  # of each side
_BLUR = 0.01  # sigma, of the short side: 2.2 pixels at 224
_ANGLE = 15  # degrees
_JPEG_QUALITY = 20


def robustness(
    embedder: Embedder,
    pairs: list[Pair],
    *,
    seed: int = 0,
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
) -> Mapping[str, Mapping[str, float]]:
    """For each change, by its name, how many points each of `recall`'s figures loses; below 0 it gained.

    The changes of images are those of IMAGE_CHANGES, applied to all images at about the size the model sees, so that a
    blur means the same for a large photo and a small one. "typo" changes every caption by one letter, chosen by `seed`.
    `vectors` are the rows of the unchanged images and captions, if they are at hand already.
    """
    images, texts = vectors or embed_pairs(embedder, pairs)
    owner = owners(pairs)
    clean = recall(images, texts, owner)
    lost = {}
    for name, change in IMAGE_CHANGES.items():
        changed = embedder.embed_images(_change_images(pairs, change, math.ceil(embedder.image_size / _CROP)))
        lost[name] = _lost(clean, recall(changed, texts, owner))
    captions = [caption for pair in pairs for caption in pair.captions]
    typos = [with_typo(caption, random.Random(f"{seed} {number}")) for number, caption in enumerate(captions)]
    lost["typo"] = _lost(clean, recall(images, embedder.embed_texts(typos), owner))
    return lost


def with_typo(text: str, rng: random.Random) -> str:
    """The text with one letter dropped, or swapped with the next, inside a word; as it is where no word is long enough.

    A first letter stays: people rarely miss it, and words are read by it (Pruthi et al. 2019).
    """
    places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    here, after = text[place], text[place + 1]
    if here == after or rng.random() < 0.5:
        return text[:place] + text[place + 1 :]
    return text[:place] + after + here + text[place + 2 :]


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(_BLUR * min(image.size)))


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    left, top = (1 - _CROP) / 2 * width, (1 - _CROP) / 2 * height
    return image.crop((round(left), round(top), round(width - left), round(height - top)))


def _rotation(image: Image.Image) -> Image.Image:
    mean = tuple(round(value) for value in ImageStat.Stat(image).mean)  # in the corners, where black would be an object
    return image.rotate(_ANGLE, Image.Resampling.BICUBIC, fillcolor=mean)


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Image.open(file).convert("RGB")


IMAGE_CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "blur": _blur,
    "crop": _crop,
    "rotation": _rotation,
    "grey": _grey,
    "jpeg": _jpeg,
}


def _change_images(pairs: list[Pair], change: Callable[[Image.Image], Image.Image], side: int) -> Iterator[Any]:
    for number, pair in enumerate(pairs):
        rgb = load_image(image_input(pair.image), target=side, name=image_name(pair.image, number)).rgb
        scale = side / min(rgb.size)
        if scale < 1:
            rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
        yield change(rgb)


def _lost(clean: Mapping[str, float], changed: Mapping[str, float]) -> dict[str, float]:
    return {name: clean[name] - changed[name] for name in clean}
