"""Everything that is measured of one model: retrieval with intervals, zero-shot, robustness, speed and size."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.runtime import cpu_count
from clip_qdrant_training.data.read import Pair, image_input
from clip_qdrant_training.evaluation.recall import Ranks, bootstrap, embed_pairs, measures, owners, ranks
from clip_qdrant_training.evaluation.robustness import robustness
from clip_qdrant_training.evaluation.zero_shot import KS, Labelled, zero_shot

__all__ = ["Judgement", "Size", "Speed", "figure_names", "judge", "measure_size", "measure_speed"]

_TIMED_IMAGES = 256
_TIMED_TEXTS = 50
_WARM = (
    8  # images and texts embedded before the clock starts: a runtime allocates and chooses kernels at its first calls
)


@dataclass(frozen=True)
class Speed:
    """How fast an embedder is here and now. Compare only what was measured on the same idle machine."""

    images_per_second: float  # in batches, reading and decoding included
    text_ms: float  # of one text by itself, as a search has it: the median of 50
    threads: int  # the cores this process may use


@dataclass(frozen=True)
class Size:
    """How big a model is. What cannot be told is None: an embedder need not come from a checkpoint file."""

    dim: int
    bytes: int | None
    parameters: int | None


@dataclass(frozen=True)
class Judgement:
    """What was measured of one model on one set of pairs; empty or None what was not asked for."""

    model: str
    fingerprint: str
    images: np.ndarray  # (n, dim), float32 unit rows
    texts: np.ndarray  # (m, dim), float32 unit rows
    metrics: Mapping[str, float]  # of `measures`
    intervals: Mapping[str, tuple[float, float]]  # of `bootstrap`, by the same names
    zero_shot: Mapping[str, float]
    robustness: Mapping[str, Mapping[str, float]]
    speed: Speed | None = None
    size: Size | None = None

    def figures(self) -> dict[str, float]:
        """The figures that `figure_names` names."""
        every = {**self.metrics, **{f"zero_shot_{name}": value for name, value in self.zero_shot.items()}}
        return {name: every[name] for name in figure_names(zero_shot=bool(self.zero_shot))}

    def to_dict(self) -> dict[str, Any]:
        """The judgement in JSON types, without the vectors and without what was not measured."""
        found: dict[str, Any] = {"model": self.model, "fingerprint": self.fingerprint, "metrics": dict(self.metrics)}
        optional: dict[str, Any] = {
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "zero_shot": dict(self.zero_shot),
            "robustness": {name: dict(lost) for name, lost in self.robustness.items()},
            "speed": asdict(self.speed) if self.speed else None,
            "size": asdict(self.size) if self.size else None,
        }
        return found | {name: value for name, value in optional.items() if value}


def figure_names(*, zero_shot: bool) -> list[str]:
    """The figures of which more is better: recall and MRR, and accuracy as "zero_shot_accuracy@1"."""
    nothing = Ranks(np.ones(1, np.int64), np.ones(1, np.int64))
    names = [name for name in measures(nothing) if not name.endswith("median_rank")]
    return names + [f"zero_shot_accuracy@{k}" for k in KS if zero_shot]


def judge(
    embedder: Embedder,
    pairs: list[Pair],
    *,
    model: str = "",
    samples: int = 1000,
    labelled: Sequence[Labelled] = (),
    changes: bool = False,
    clock: bool = False,
    seed: int = 0,
) -> Judgement:
    """Measures a model on pairs: recall always; more as asked for.

    `samples` is that of the bootstrap, 0 leaves the intervals out; `labelled` are images for zero-shot classification;
    `changes` adds the robustness, `clock` speed and size. `model` is its name: "bundled", a path, or "hf:…".
    """
    images, texts = embed_pairs(embedder, pairs)
    owner = owners(pairs)
    found = ranks(images, texts, owner)
    return Judgement(
        model=model,
        fingerprint=embedder.fingerprint,
        images=images,
        texts=texts,
        metrics=measures(found),
        intervals=bootstrap(found, owner, samples=samples, seed=seed) if samples else {},
        zero_shot=zero_shot(embedder, labelled) if labelled else {},
        robustness=robustness(embedder, pairs, seed=seed, vectors=(images, texts)) if changes else {},
        speed=measure_speed(embedder, pairs) if clock else None,
        size=measure_size(embedder, model) if clock else None,
    )


def measure_speed(embedder: Embedder, pairs: list[Pair]) -> Speed:
    """Images a second over the first 256 images, and milliseconds for one text over 50 captions."""
    timed = pairs[:_TIMED_IMAGES]
    captions = [caption for pair in pairs[:_TIMED_TEXTS] for caption in pair.captions]
    texts = list(itertools.islice(itertools.cycle(captions), _TIMED_TEXTS))
    embedder.embed_images(image_input(pair.image) for pair in timed[:_WARM])
    began = time.perf_counter()
    embedder.embed_images(image_input(pair.image) for pair in timed)
    images_per_second = len(timed) / (time.perf_counter() - began)
    for text in texts[:_WARM]:
        embedder.embed_texts([text])
    milliseconds = []
    for text in texts:
        began = time.perf_counter()
        embedder.embed_texts([text])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return Speed(images_per_second, statistics.median(milliseconds), cpu_count())


def measure_size(embedder: Embedder, model: str = "") -> Size:
    """The length of a vector and, where `model` is "bundled" or a checkpoint file, its bytes and parameters."""
    from clip_qdrant.content import bundled_checkpoint
    from clip_qdrant.model.loading import read_checkpoint

    path = bundled_checkpoint() if model == "bundled" else Path(model)
    if not path.is_file():
        return Size(embedder.dim, None, None)
    network = read_checkpoint(str(path)).model
    return Size(embedder.dim, path.stat().st_size, sum(parameter.numel() for parameter in network.parameters()))
