"""The model that a run must not stray from: its rows of a batch, and of anchors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.pairs import Pair
from clip_qdrant_training.inputs.samples import Batch, Samples
from clip_qdrant_training.network.kinds.open import open_network
from clip_qdrant_training.network.towers import Towers

__all__ = ["Teacher"]

_TEXTS_A_CALL = 128


class Teacher:
    """A frozen network whose similarities the student is to keep. What its encoders give is computed once."""

    def __init__(
        self, checkpoint: Checkpoint, pairs: Sequence[Pair], config: TrainConfig, device: str, precision: torch.dtype
    ) -> None:
        if config.distill_images and config.anchors is None:
            raise ConfigError(
                f"distill_images is {config.distill_images} but anchors is none: give the file of texts among which "
                "images are to stay where they are"
            )
        frozen = replace(checkpoint, model=copy.deepcopy(checkpoint.model).to(device).eval())
        network = open_network(frozen)
        towers = Towers(
            frozen,
            frozen_stages=network.image.depth,
            frozen_text=True,
            precision=precision,
            unit=True,
            network=network,
        )
        self._samples = Samples(frozen, pairs, towers, config, views=1)
        self._features: dict[str, Tensor] = {}
        self.anchors = _read_anchors(config.anchors) if config.anchors else []

    def close(self) -> None:
        self._samples.close()

    def images(self, batch: Batch) -> Tensor:
        """Unit rows of the batch's images, unaugmented."""
        samples = self._samples
        with torch.no_grad():
            return samples.towers.image_rows(samples.image_inputs(samples.prepare(batch.numbers, 0)))

    @cached_property
    def all_anchors(self) -> Tensor:
        """Unit rows of all anchors (a, dim), those of about the same length computed together."""
        towers, order = self._samples.towers, sorted(range(len(self.anchors)), key=lambda i: len(self.anchors[i]))
        parts = [order[start : start + _TEXTS_A_CALL] for start in range(0, len(order), _TEXTS_A_CALL)]
        with torch.no_grad():
            rows = [towers.text_rows(*towers.text_inputs([self.anchors[i] for i in part])) for part in parts]
        return torch.cat(rows)[torch.tensor(order).argsort()]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows of texts."""
        towers = self._samples.towers
        with torch.no_grad():
            for text in texts:  # alone: the last bits of a row depend on the texts that are padded with it
                if text not in self._features:
                    [self._features[text]] = towers.text_inputs([text])[0]
            return towers.text_rows(torch.stack([self._features[text] for text in texts]))


def _read_anchors(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"anchors is {path!r}: cannot read it as texts, one a line: {error}") from error
    if not any(line.strip() for line in lines):
        raise ConfigError(f"anchors is {path!r}, which holds no text: write one a line")
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
