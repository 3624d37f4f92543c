"""Both encoders with their heads, cut where the frozen part ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant_training.network.acceleration import autocast
from clip_qdrant_training.network.kinds.open import open_network
from clip_qdrant_training.network.kinds.protocol import Network

__all__ = ["Towers"]


class Towers:
    """Both encoders with their heads.

    `*_inputs` computes what lies below the cut, without a gradient; `*_rows` computes what lies above it. `unit` rows
    have norm 1. `network` is that of the checkpoint, if it has been opened before.
    """

    def __init__(
        self,
        encoders: Checkpoint,
        *,
        frozen_stages: int,
        frozen_text: bool,
        precision: torch.dtype,
        unit: bool,
        network: Network | None = None,
    ) -> None:
        self.network = network or open_network(encoders)
        self.model = self.network.model
        self.device = next(self.model.parameters()).device
        self.precision = precision
        self.unit = unit
        image, text = self.network.image, self.network.text
        self.frozen_stages = frozen_stages if image.can_cut(frozen_stages) else 0
        self.frozen_text = frozen_text and text.can_cut(text.depth)
        self.tokenize = TextTokenizer(encoders.tokenizer, encoders.tokenization)

    def image_inputs(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> what `image_rows` takes: the same pixels, or what the last frozen stage makes."""
        if not self.frozen_stages:
            return pixels
        image = self.network.image
        if self.frozen_stages == image.depth:  # features that are computed once are worth full precision
            with torch.no_grad():
                features = image.run(0, image.depth, pixels)
            return features.float() if features.ndim == 2 else features.to(self.precision)
        with torch.no_grad(), self._autocast():
            return image.run(0, self.frozen_stages, pixels).to(self.precision)

    def image_rows(self, inputs: Tensor) -> Tensor:
        """-> float32 (n, dim)."""
        image = self.network.image
        with self._autocast():
            features = image.run(self.frozen_stages, image.depth, inputs)
        return self._finish(image.head(features.float()))

    def text_inputs(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """n texts -> what `text_rows` takes: (ids, mask), or (features,) of a frozen encoder."""
        ids, mask = (torch.from_numpy(each).to(self.device) for each in self.tokenize(texts))
        if not self.frozen_text:
            return ids, mask
        with torch.no_grad():
            return (self.network.text.run(0, self.network.text.depth, ids, mask).float(),)

    def text_rows(self, *inputs: Tensor) -> Tensor:
        """-> float32 (n, dim)."""
        text = self.network.text
        with self._autocast():
            features = text.run(text.depth if self.frozen_text else 0, text.depth, *inputs)
        return self._finish(text.head(features.float()))

    def _finish(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) if self.unit else rows

    def _autocast(self) -> torch.autocast:
        return autocast(self.precision, str(self.device))
