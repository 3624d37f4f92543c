"""What a step trains on: augmented pixels and tokens, or, below what is frozen, features that are computed once.

Everything random about a sample follows from the seed, the epoch and the pair, never from what came before it. So
samples are prepared ahead of their step, and a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import contextlib
import math
import os
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
from torch.utils.checkpoint import checkpoint

from clip_qdrant.errors import TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant.runtime import cpu_count
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.augment import draw, says_side, swap_sides
from clip_qdrant_training.data.pixel_cache import PixelCache
from clip_qdrant_training.data.read import Pair, caption_key, image_input, image_name
from clip_qdrant_training.loop.acceleration import autocast
from clip_qdrant_training.loop.stages import Stage, image_stages

__all__ = ["Batch", "Samples", "Towers", "seeded"]

_IMAGES_A_CALL = 32
_TEXTS_A_CALL = 128
_PLAIN = 0  # the view without augmentation


def seeded(*parts: int) -> random.Random:
    """A generator that follows from these numbers alone, on every platform and in every process."""
    return random.Random("/".join(map(str, parts)))


@dataclass
class Batch:
    """The samples of one step. Texts j*c to j*c + c - 1 belong to image j, c being captions_per_image.

    `pixels` has a row for each image whose frozen features are not kept yet, which `missing` counts; without frozen
    stages these are all. `image_keys` and `text_keys` are equal where images and captions are.
    """

    numbers: list[int]
    views: list[int]
    missing: list[int]
    pixels: Tensor  # uint8 (len(missing), S, S, 3)
    texts: list[str]
    image_keys: Tensor  # int64 (n,)
    text_keys: Tensor  # int64 (n * c,)


class Towers:
    """Both encoders with their heads, cut where the frozen part ends: `*_inputs` computes what is below, without a
    gradient, `*_rows` what is above. `unit` rows have norm 1."""

    def __init__(
        self,
        encoders: Checkpoint,
        *,
        frozen_stages: int,
        frozen_text: bool,
        precision: torch.dtype,
        unit: bool,
        checkpointing: bool = False,
    ) -> None:
        self.model: DualEncoder = encoders.model
        self.device = next(self.model.parameters()).device
        self.precision = precision
        self.unit = unit
        self.frozen_stages = frozen_stages
        self.frozen_text = frozen_text
        self.tokenize = TextTokenizer(encoders.tokenizer, encoders.tokenization)
        stages = image_stages(self.model.image_encoder)
        self._below, self._above = stages[:frozen_stages], stages[frozen_stages:]
        self._checkpointing = checkpointing

    def image_inputs(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> what `image_rows` takes: the same pixels, or maps of the last frozen stage."""
        if not self.frozen_stages:
            return pixels
        if not self._above:  # features that are computed once are worth full precision
            with torch.no_grad():
                return self._run(self._below, self._normalised(pixels)).float()
        with torch.no_grad(), self._autocast():
            return self._run(self._below, self._normalised(pixels)).to(self.precision)

    def image_rows(self, inputs: Tensor) -> Tensor:
        """-> float32 (n, dim)."""
        with self._autocast():
            maps = inputs if self.frozen_stages else self._normalised(inputs)
            features = self._run(self._above, maps)
        return self._finished(self.model.image_projection(features.float()))

    def text_inputs(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """n texts -> what `text_rows` takes: (ids, mask), or (features,) of a frozen encoder."""
        ids, mask = (torch.from_numpy(each).to(self.device) for each in self.tokenize(texts))
        if not self.frozen_text:
            return ids, mask
        with torch.no_grad():
            return (self.model.text_encoder(ids, mask).float(),)

    def text_rows(self, *inputs: Tensor) -> Tensor:
        """-> float32 (n, dim)."""
        if self.frozen_text:
            return self._finished(self.model.text_projection(*inputs))
        with self._autocast():
            features = self.model.text_encoder(*inputs)
        return self._finished(self.model.text_projection(features.float()))

    def _normalised(self, pixels: Tensor) -> Tensor:
        normalised: Tensor = self.model.pixel_norm(pixels)
        return normalised.contiguous(memory_format=torch.channels_last)

    def _run(self, stages: Sequence[Stage], maps: Tensor) -> Tensor:
        for stage in stages:
            if self._checkpointing and torch.is_grad_enabled():  # activations within a stage are computed again
                maps = checkpoint(stage, maps, use_reentrant=False)
            else:
                maps = stage(maps)
        return maps

    def _finished(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) if self.unit else rows

    def _autocast(self) -> torch.autocast:
        return autocast(self.precision, str(self.device))


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
        self._kept = _KeptMaps(len(pairs), self.views, limit, folder if config.cache == "disk" else None)
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
        """The samples of these pairs in this epoch; decodes and augments what no frozen feature stands for."""
        views = [self._view(number, epoch) for number in numbers]
        texts, missing, jobs = [], [], []
        for position, (number, view) in enumerate(zip(numbers, views, strict=True)):
            seed = (self.config.seed, number, view) if self.views else (self.config.seed, epoch, number)
            mirrored, caption_rng = self._mirrored(number, view, seed), seeded(self.config.seed, epoch, number, 1)
            texts += [swap_sides(text) if mirrored else text for text in self._captions(number, caption_rng)]
            if not self._kept.has(number, view):
                missing.append(position)
                jobs.append((number, view, seed))
        pixels = list(self._pool.map(self._pixels, jobs))
        size = self.preprocessing.image_size
        return Batch(
            numbers=list(numbers),
            views=views,
            missing=missing,
            pixels=torch.from_numpy(np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)),
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
        return _stacked(maps).to(self.towers.device)

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
        """Always as many images a call: their last bits must not depend on what else a batch has to compute."""
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
        """Which view of an image an epoch sees; each pair begins elsewhere, and goes through all in turn."""
        return (seeded(self.config.seed, number).randrange(self.views) + epoch) % self.views if self.views else 1

    def _captions(self, number: int, rng: random.Random) -> list[str]:
        captions, wanted = self.pairs[number].captions, self.config.captions_per_image
        if len(captions) >= wanted:
            return rng.sample(captions, wanted)
        return [*captions, *(rng.choice(captions) for _ in range(wanted - len(captions)))]

    def _mirrored(self, number: int, view: int, seed: tuple[int, ...]) -> bool:
        if self.views and view == _PLAIN:
            return False
        # Whether a view is mirrored is drawn before all that depends on the size of the image.
        return draw(self.config.augmentation, seeded(*seed), (1, 1), sided=self._sided[number]).mirrored

    def _pixels(self, job: tuple[int, int, tuple[int, ...]]) -> np.ndarray:
        number, view, seed = job
        if self.views and view == _PLAIN:
            return self._plain_pixels(number)
        rgb = self._decoded[number]
        drawn = draw(self.config.augmentation, seeded(*seed), rgb.size, sided=self._sided[number])
        return drawn.apply(rgb, self.preprocessing)

    def _plain_pixels(self, number: int) -> np.ndarray:
        return np.asarray(self._decoded[len(self.pairs) + number])

    def name(self, number: int) -> str:
        """What a message calls the image of a pair."""
        return image_name(self.pairs[number].image, number)

    def _load(self, number: int) -> Image.Image:
        plain, number = divmod(number, len(self.pairs))
        size = self.preprocessing.image_size if plain else self._source_size
        loaded = load_image(image_input(self.pairs[number].image), target=size, name=self.name(number))
        self._contents[number] = int(loaded.info.sha256[:15], 16)
        return Image.fromarray(self.preprocessing(loaded.rgb)) if plain else loaded.rgb


class _KeptMaps:
    """Frozen features by pair and view, up to a limit of bytes; what does not fit is computed each time.

    Nothing is ever evicted: a run goes through its pairs in random order, so what was seen last is not what comes next.
    """

    def __init__(self, pairs: int, views: int, limit: int, folder: Path | None) -> None:
        self._pairs, self._views, self._limit, self._folder = pairs, views, limit, folder
        self._there = np.zeros((pairs, max(1, views)), dtype=bool)
        self._maps: Tensor | None = None
        self._slots = 0
        self._file: Path | None = None

    def has(self, number: int, view: int) -> bool:
        return self._views > 0 and bool(self._there[number, view])

    def get(self, number: int, view: int) -> Tensor:
        assert self._maps is not None
        return _channels_first(self._maps[number * self._views + view])

    def put(self, number: int, view: int, maps: Tensor) -> None:
        if self._maps is None:
            wanted = self._pairs * self._views
            self._slots = min(wanted, self._limit // (maps.numel() * maps.element_size()))
            self._maps = self._space(maps)
        slot = number * self._views + view
        if slot < self._slots:
            self._maps[slot] = _channels_last(maps)
            self._there[number, view] = True

    def close(self) -> None:
        self._maps = None
        self._there[:] = False
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _space(self, maps: Tensor) -> Tensor:
        shape = (self._slots, *_channels_last(maps).shape)
        if self._folder is None or not self._slots:
            return torch.empty(shape, dtype=maps.dtype)  # the system gives memory only for what is written
        self._file = self._folder / f"features-{os.getpid()}-{id(self)}.cache"
        size = math.prod(shape)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # else a disk that is full later ends the process by a signal
                    os.posix_fallocate(file.fileno(), 0, size * maps.element_size())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.unlink()
            raise TrainingError(
                f"cannot keep {size * maps.element_size() / 1e9:.1f} GB of features in {self._folder}: "
                f"{error.strerror or error}; give a run folder on a disk with more room, or a smaller cache_gb"
            ) from error
        kept = torch.from_file(str(self._file), shared=True, size=size, dtype=maps.dtype).view(shape)
        with contextlib.suppress(OSError):  # Windows holds on to it; elsewhere it goes with its process even if killed
            self._file.unlink()
        return kept


def _channels_last(maps: Tensor) -> Tensor:
    """(C, H, W) maps of a convolutional network as (H, W, C); tokens of a transformer as they are."""
    return maps.permute(1, 2, 0) if maps.ndim == 3 else maps


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(2, 0, 1) if maps.ndim == 3 else maps


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """One batch of maps; those of a convolutional network in channels_last, as the rest of it wants them."""
    stacked = torch.stack([_channels_last(each) for each in maps])
    return stacked.permute(0, 3, 1, 2) if stacked.ndim == 4 else stacked
