"""Where a step's rows come from: features computed once where the encoders are frozen, pixels and tokens otherwise."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from clip_qdrant.images import load_image
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.runtime import cpu_count
from clip_qdrant.tokenization import TextTokenizer
from clip_qdrant_training.data import Pair

__all__ = ["FeatureInputs", "Inputs", "PixelInputs"]

Progress = Callable[[str, int, int], None]  # what, done, total
_SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_IMAGES_A_CALL = 32
_TEXTS_A_CALL = 128


class Inputs(Protocol):
    """Unit rows of a sample of pairs, or of them all."""

    def rows(self, chosen: Sequence[int], rng: random.Random) -> tuple[Tensor, Tensor]:
        """Training rows of the chosen pairs, one random caption each: (n, dim) images and (n, dim) texts."""

    def all_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Every image and every caption in order, unaugmented: float32 (pairs, dim), (captions, dim)."""


class _Pairs:
    """What both kinds share: the pairs, how their images and texts are read, and which captions forbid a flip."""

    def __init__(self, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> None:
        self.model = checkpoint.model
        self.device = next(self.model.parameters()).device
        self.preprocessing = checkpoint.preprocessing
        self.tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
        self.pairs = pairs
        self.texts = [caption for pair in pairs for caption in pair.captions]
        self.first = np.cumsum([0, *(len(pair.captions) for pair in pairs)])
        self.flippable = [not any(_SIDED.search(caption) for caption in pair.captions) for pair in pairs]

    def load(self, number: int) -> Image.Image:
        image = self.pairs[number].image
        name = None if isinstance(image, (str, os.PathLike)) else f"the image of pair {number}"
        return load_image(image, target=self.preprocessing.image_size, name=name).rgb

    def stacked(self, pixels: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(pixels)).to(self.device)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, mask = self.tokenize(texts)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def caption(self, number: int, rng: random.Random) -> int:
        """The index of a random caption of a pair."""
        return rng.randrange(int(self.first[number]), int(self.first[number + 1]))

    def images(self, encode: Callable[[Tensor], Tensor], *, flip: bool, progress: Progress | None) -> Tensor:
        """`encode` over all images, in order; mirrored with `flip`."""
        parts = []
        with ThreadPoolExecutor(cpu_count()) as pool, torch.inference_mode():
            for start in range(0, len(self.pairs), _IMAGES_A_CALL):
                loaded = pool.map(self.load, range(start, min(start + _IMAGES_A_CALL, len(self.pairs))))
                pixels = [self.preprocessing(ImageOps.mirror(rgb) if flip else rgb) for rgb in loaded]
                parts.append(encode(self.stacked(pixels)).cpu())
                if progress:
                    progress("images", min(start + _IMAGES_A_CALL, len(self.pairs)), len(self.pairs))
        return torch.cat(parts).clone()

    def captions(self, encode: Callable[[Tensor, Tensor], Tensor], *, progress: Progress | None) -> Tensor:
        """`encode` over all captions, in order."""
        order = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
        out: Tensor | None = None
        with torch.inference_mode():
            for start in range(0, len(order), _TEXTS_A_CALL):
                chosen = order[start : start + _TEXTS_A_CALL]
                rows = encode(*self.tokens([self.texts[i] for i in chosen])).cpu()
                out = torch.empty(len(order), rows.shape[1]) if out is None else out
                out[chosen] = rows
                if progress:
                    progress("captions", start + len(chosen), len(order))
        assert out is not None, "pairs have captions"
        return out.clone()


class FeatureInputs(_Pairs):
    """Frozen encoders: their features are computed once, also of the mirrored images; only the heads run in a step."""

    def __init__(
        self, checkpoint: Checkpoint, pairs: Sequence[Pair], *, flip: bool = True, progress: Progress | None = None
    ) -> None:
        super().__init__(checkpoint, pairs)
        model = self.model

        def encode(pixels: Tensor) -> Tensor:
            features: Tensor = model.image_encoder(model.pixel_norm(pixels))
            return features

        self.views = [
            self.images(encode, flip=view, progress=progress) for view in ([False, True] if flip else [False])
        ]
        self.text_features = self.captions(model.text_encoder, progress=progress)

    def rows(self, chosen: Sequence[int], rng: random.Random) -> tuple[Tensor, Tensor]:
        views = [rng.randrange(len(self.views)) if self.flippable[number] else 0 for number in chosen]
        images = torch.stack([self.views[view][number] for view, number in zip(views, chosen, strict=True)])
        texts = self.text_features[[self.caption(number, rng) for number in chosen]]
        return self._project(images.to(self.device), texts.to(self.device))

    def all_rows(self) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            images, texts = self._project(self.views[0].to(self.device), self.text_features.to(self.device))
        return images.cpu().numpy(), texts.cpu().numpy()

    def _project(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        return (
            F.normalize(model.image_projection(images), dim=-1),
            F.normalize(model.text_projection(texts), dim=-1),
        )


class PixelInputs(_Pairs):
    """Encoders in training: images are decoded and augmented anew in each step, by as many threads as cores."""

    def __init__(self, checkpoint: Checkpoint, pairs: Sequence[Pair], *, flip: bool = True) -> None:
        super().__init__(checkpoint, pairs)
        self.flip = flip
        self.pool = ThreadPoolExecutor(cpu_count())

    def rows(self, chosen: Sequence[int], rng: random.Random) -> tuple[Tensor, Tensor]:
        seeds = [rng.getrandbits(32) for _ in chosen]
        pixels = self.stacked(list(self.pool.map(self._augmented, chosen, seeds)))
        texts = self.tokens([self.texts[self.caption(number, rng)] for number in chosen])
        return self.model.encode_image(pixels), self.model.encode_text(*texts)

    def all_rows(self) -> tuple[np.ndarray, np.ndarray]:
        images = self.images(self.model.encode_image, flip=False, progress=None)
        return images.numpy(), self.captions(self.model.encode_text, progress=None).numpy()

    def _augmented(self, number: int, seed: int) -> np.ndarray:
        """A crop of at least 80 % of the sides, mirrored half the time where no caption says left or right."""
        rng, rgb = random.Random(seed), self.load(number)
        width, height = (int(side * rng.uniform(0.8, 1.0)) for side in rgb.size)
        left, top = rng.randint(0, rgb.width - width), rng.randint(0, rgb.height - height)
        rgb = rgb.crop((left, top, left + max(width, 1), top + max(height, 1)))
        if self.flip and self.flippable[number] and rng.random() < 0.5:
            rgb = ImageOps.mirror(rgb)
        return self.preprocessing(rgb)
