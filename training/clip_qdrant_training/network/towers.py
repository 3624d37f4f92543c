"""Both encoders with their heads, cut where the frozen part ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant_training.network.acceleration import autocast
from clip_qdrant_training.network.stages import StageFunction, image_stages

__all__ = ["Towers"]


class Towers:
    """Both encoders with their heads.

    `*_inputs` computes what lies below the cut, without a gradient; `*_rows` computes what lies above it. `unit` rows
    have norm 1.
    """

    def __init__(
        self,
        encoders: Checkpoint,
        *,
        frozen_stages: int,
        frozen_text: bool,
        precision: torch.dtype,
        unit: bool,
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

    def image_inputs(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> what `image_rows` takes: the same pixels, or maps of the last frozen stage."""
        if not self.frozen_stages:
            return pixels
        if not self._above:  # features that are computed once are worth full precision
            with torch.no_grad():
                return self._run(self._below, self._normalise(pixels)).float()
        with torch.no_grad(), self._autocast():
            return self._run(self._below, self._normalise(pixels)).to(self.precision)

    def image_rows(self, inputs: Tensor) -> Tensor:
        """-> float32 (n, dim)."""
        with self._autocast():
            maps = inputs if self.frozen_stages else self._normalise(inputs)
            features = self._run(self._above, maps)
        return self._finish(self.model.image_projection(features.float()))

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
            return self._finish(self.model.text_projection(*inputs))
        with self._autocast():
            features = self.model.text_encoder(*inputs)
        return self._finish(self.model.text_projection(features.float()))

    def _normalise(self, pixels: Tensor) -> Tensor:
        normalised: Tensor = self.model.pixel_norm(pixels)
        return normalised.contiguous(memory_format=torch.channels_last)

    def _run(self, stages: Sequence[StageFunction], maps: Tensor) -> Tensor:
        for stage in stages:
            maps = stage(maps)
        return maps

    def _finish(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) if self.unit else rows

    def _autocast(self) -> torch.autocast:
        return autocast(self.precision, str(self.device))
