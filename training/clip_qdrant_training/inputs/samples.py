"""What a step trains on: augmented pixels and tokens, or, below what is frozen, features that are computed once.

Everything random about a sample follows from the seed, the epoch and the pair, never from what came before it. So
samples are prepared ahead of their step, and a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip_qdrant.images.load import load_image
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.runtime import cpu_count
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.augment import draw, says_side, swap_sides
from clip_qdrant_training.data.pairs import Pair, caption_key, image_input, image_name
from clip_qdrant_training.inputs.feature_cache import FeatureCache, stack_maps
from clip_qdrant_training.inputs.pixel_cache import PixelCache
from clip_qdrant_training.network.towers import Towers

__all__ = ["Batch", "Samples", "make_random"]

_IMAGES_A_CALL = 32
_TEXTS_A_CALL = 128
_PLAIN = 0  # the view without augmentation


def make_random(*parts: int) -> random.Random:
    """A generator that follows from these numbers alone, on every platform and in every process."""
    return random.Random("/".join(map(str, parts)))


@dataclass
class Batch:
    """The samples of one step. Texts j*c to j*c + c - 1 belong to image j, c being captions_per_image.

    `numbers` are the pairs and `views` the view of each image. `missing` are the positions of the images whose frozen
    features are not kept yet, and `pixels` has a row for each of these; without frozen stages these are all images.
    Equal images have equal `image_keys`, equal captions equal `text_keys`.
    """

    numbers: list[int]
    views: list[int]
    missing: list[int]
    pixels: Tensor  # uint8 (len(missing), S, S, 3)
    texts: list[str]
    image_keys: Tensor  # int64 (n,)
    text_keys: Tensor  # int64 (n * c,)


class Samples:
    """Pairs as a run needs them: augmented batches for its steps, and plain rows of all of them for judging."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        pairs: Sequence[Pair],
        towers: Towers,
        config: TrainConfig,
        *,
        views: int,
        folder: Path | None = None,
    ) -> None:
        self.pairs = pairs
        self.towers = towers
        self.config = config
        self.preprocessing = checkpoint.preprocessing
        self.texts = [caption for pair in pairs for caption in pair.captions]
        self.first = np.cumsum([0, *(len(pair.captions) for pair in pairs)])
        self._pool = ThreadPoolExecutor(cpu_count(), thread_name_prefix="decode")
        self._sided = [any(says_side(caption) for caption in pair.captions) for pair in pairs]
        self._contents: dict[int, int] = {}  # a number that equal images share, once an image has been read
        keys: dict[str, int] = {}
        self._text_keys = {text: keys.setdefault(caption_key(text), len(keys)) for text in self.texts}
        for text in self.texts if config.flip == "words" else ():  # keys of what a mirrored image's caption becomes
            swapped = swap_sides(text)
            self._text_keys.setdefault(swapped, keys.setdefault(caption_key(swapped), len(keys)))
        limit = int(config.cache_gb * 1e9) if config.cache != "off" else 0
        self.views = views if towers.frozen_stages else 0
        self._kept = FeatureCache(len(pairs), self.views, limit, folder if config.cache == "disk" else None)
        # What crops are made of, large enough that not even the smallest is enlarged (up to four times the bytes), and,
        # numbered behind them, plain images just as an embedder sees them.
        self._source_size = math.ceil(self.preprocessing.image_size * min(2.0, config.crop**-0.5))
        self._decoded = PixelCache(
            self._load,
            2 * len(pairs),
            size=self._source_size,
            limit_bytes=limit if not towers.frozen_stages else 0,  # frozen features are kept instead
            folder=folder if config.cache == "disk" else None,
        )
        self._text_features: dict[str, Tensor] = {}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._decoded.close()
        self._kept.close()

    def prepare(self, numbers: Sequence[int], epoch: int) -> Batch:
        """The samples of these pairs in this epoch. Images whose frozen features are kept are not decoded."""
        views = [self._view(number, epoch) for number in numbers]
        texts, missing, jobs = [], [], []
        for position, (number, view) in enumerate(zip(numbers, views, strict=True)):
            seed = (self.config.seed, number, view) if self.views else (self.config.seed, epoch, number)
            mirrored, caption_rng = (
                self._is_mirrored(number, view, seed),
                make_random(self.config.seed, epoch, number, 1),
            )
            texts += [swap_sides(text) if mirrored else text for text in self._captions(number, caption_rng)]
            if not self._kept.has(number, view):
                missing.append(position)
                jobs.append((number, view, seed))
        pixels = list(self._pool.map(self._pixels, jobs))
        return Batch(
            numbers=list(numbers),
            views=views,
            missing=missing,
            pixels=torch.from_numpy(np.stack(pixels) if pixels else np.empty((0, *self.preprocessing.shape), np.uint8)),
            texts=texts,
            image_keys=torch.tensor([self._contents[number] for number in numbers]),  # all read, now or before
            text_keys=torch.tensor([self._text_keys[text] for text in texts]),
        )

    def image_inputs(self, batch: Batch) -> Tensor:
        """What `Towers.image_rows` takes, frozen features computed where they are not kept yet."""
        pixels = batch.pixels.to(self.towers.device, non_blocking=True)
        if not self.towers.frozen_stages:
            return pixels
        parts = torch.split(pixels, _IMAGES_A_CALL) if batch.missing else ()
        rows = iter([row for part in parts for row in self._frozen_features(part)])
        absent = set(batch.missing)
        maps = []
        for position, (number, view) in enumerate(zip(batch.numbers, batch.views, strict=True)):
            if position in absent:
                maps.append(next(rows))
                self._kept.put(number, view, maps[-1])
            else:
                maps.append(self._kept.get(number, view))
        return stack_maps(maps).to(self.towers.device)

    def text_inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """What `Towers.text_rows` takes."""
        return self._text_inputs(batch.texts)

    def all_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Every image and every caption in order, unaugmented: float32 (pairs, dim), (captions, dim), unit rows."""
        with torch.no_grad():  # inference_mode would mark the kept features, and later steps train on them
            images = torch.cat([self.towers.image_rows(part).float().cpu() for part in self._plain()])
            order = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
            texts = torch.empty(len(order), images.shape[1])
            for start in range(0, len(order), _TEXTS_A_CALL):
                chosen = order[start : start + _TEXTS_A_CALL]
                rows = self.towers.text_rows(*self._text_inputs([self.texts[i] for i in chosen]))
                texts[chosen] = rows.float().cpu()
            rows_of_both = (F.normalize(rows, dim=-1).numpy() for rows in (images, texts))
        images_out, texts_out = rows_of_both
        return images_out, texts_out

    def _frozen_features(self, pixels: Tensor) -> Tensor:
        """Computes the same number of images in each call: their last bits must not depend on the rest of the batch."""
        short = _IMAGES_A_CALL - len(pixels)
        filled = torch.cat([pixels, pixels[-1:].expand(short, *pixels.shape[1:])]) if short else pixels
        return self.towers.image_inputs(filled)[: len(pixels)].cpu()

    def _plain(self) -> Iterator[Tensor]:
        for start in range(0, len(self.pairs), _IMAGES_A_CALL):
            numbers = range(start, min(start + _IMAGES_A_CALL, len(self.pairs)))
            missing = [position for position, number in enumerate(numbers) if not self._kept.has(number, _PLAIN)]
            pixels = list(self._pool.map(self._plain_pixels, [numbers[position] for position in missing]))
            blank = torch.empty(0, dtype=torch.int64)
            yield self.image_inputs(
                Batch(
                    numbers=list(numbers),
                    views=[_PLAIN] * len(numbers),
                    missing=missing,
                    pixels=torch.from_numpy(np.stack(pixels)) if pixels else blank,
                    texts=[],
                    image_keys=blank,
                    text_keys=blank,
                )
            )

    def _text_inputs(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        if not self.towers.frozen_text:
            return self.towers.text_inputs(texts)
        if not self._text_features:  # all at once: the last bits of a row depend on the texts that are padded with it
            every = sorted(self._text_keys, key=len)
            for start in range(0, len(every), _TEXTS_A_CALL):
                part = every[start : start + _TEXTS_A_CALL]
                [features] = self.towers.text_inputs(part)
                self._text_features.update(zip(part, features.cpu().clone(), strict=True))
        return (torch.stack([self._text_features[text] for text in texts]).to(self.towers.device),)

    def _view(self, number: int, epoch: int) -> int:
        """Which view of an image an epoch sees. Each pair begins with another view, and goes through all in turn."""
        return (make_random(self.config.seed, number).randrange(self.views) + epoch) % self.views if self.views else 1

    def _captions(self, number: int, rng: random.Random) -> list[str]:
        captions, count = self.pairs[number].captions, self.config.captions_per_image
        if len(captions) >= count:
            return rng.sample(captions, count)
        return [*captions, *(rng.choice(captions) for _ in range(count - len(captions)))]

    def _is_mirrored(self, number: int, view: int, seed: tuple[int, ...]) -> bool:
        if self.views and view == _PLAIN:
            return False
        # Whether a view is mirrored is drawn before all that depends on the size of the image.
        return draw(self.config.augmentation, make_random(*seed), (1, 1), sided=self._sided[number]).mirrored

    def _pixels(self, job: tuple[int, int, tuple[int, ...]]) -> np.ndarray:
        number, view, seed = job
        if (self.views and view == _PLAIN) or self.config.augmentation.is_off:
            return self._plain_pixels(number)
        rgb = self._decoded[number]
        drawn = draw(self.config.augmentation, make_random(*seed), rgb.size, sided=self._sided[number])
        return drawn.apply(rgb, self.preprocessing)

    def _plain_pixels(self, number: int) -> np.ndarray:
        return np.asarray(self._decoded[len(self.pairs) + number])

    def name(self, number: int) -> str:
        """What a message calls the image of a pair."""
        return image_name(self.pairs[number].image, number)

    def _load(self, number: int) -> Image.Image:
        plain, number = divmod(number, len(self.pairs))
        size = self.preprocessing.needed_side if plain else self._source_size
        loaded = load_image(image_input(self.pairs[number].image), target=size, name=self.name(number))
        self._contents[number] = int(loaded.info.sha256[:15], 16)
        return Image.fromarray(self.preprocessing(loaded.rgb)) if plain else loaded.rgb
