"""Our own dual encoders: a timm model and a transformers model, each with a head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training.network.kinds.protocol import ParameterPlace
from clip_qdrant_training.network.kinds.trace import used_parameters, without_dropout
from clip_qdrant_training.network.stages import image_stage, image_stages, text_depth, text_layer

__all__ = ["DualNetwork"]


class DualNetwork:
    """A `DualEncoder` that learns."""

    logit_bias = None

    def __init__(self, model: DualEncoder, shape: tuple[int, ...]) -> None:
        self.model, self._shape = model, shape
        self.image, self.text = _ImageSide(model), _TextSide(model)

    @property
    def logit_scale(self) -> nn.Parameter:
        return self.model.logit_scale

    @property
    def extra(self) -> Mapping[str, nn.Parameter]:
        return {}

    def used(self) -> frozenset[int]:
        device = self.logit_scale.device
        ids = torch.ones((1, 2), dtype=torch.int64, device=device)
        with without_dropout(self.model), torch.enable_grad():
            pixels = torch.zeros((1, *self._shape), dtype=torch.uint8, device=device)
            rows = self.model.encode_image(pixels), self.model.encode_text(ids, ids)
        return used_parameters(rows[0]) | used_parameters(rows[1])

    def place(self, name: str) -> ParameterPlace | None:
        part, _, rest = name.partition(".")
        if part == "image_encoder":
            return ParameterPlace("image", "image", image_stage(rest, self.model.image_encoder))
        if part == "text_encoder":
            return ParameterPlace("text", "text", text_layer(rest, self.text.depth))
        if name.startswith("image_projection.classifier."):
            # A concept head's classifier belongs to the image encoder it was trained with, and is frozen with it.
            return ParameterPlace("heads", "image", self.image.depth - 1)
        return ParameterPlace("heads")


class _ImageSide:
    name = "image_encoder"

    def __init__(self, model: DualEncoder) -> None:
        self._model = model
        self._stages = image_stages(model.image_encoder)
        self.depth = len(self._stages)

    def can_cut(self, layer: int) -> bool:
        return 0 <= layer <= self.depth

    def run(self, start: int, stop: int, *inputs: Tensor) -> Tensor:
        [maps] = inputs
        if start == 0:
            maps = self._model.pixel_norm(maps).contiguous(memory_format=torch.channels_last)
        for stage in self._stages[start:stop]:
            maps = stage(maps)
        return maps

    def head(self, features: Tensor) -> Tensor:
        rows: Tensor = self._model.image_projection(features)
        return rows

    def eval_below(self, layer: int) -> None:
        if layer == self.depth:
            self._model.image_encoder.eval()


class _TextSide:
    name = "text_encoder"

    def __init__(self, model: DualEncoder) -> None:
        self._model = model
        self.depth = text_depth(model)

    def can_cut(self, layer: int) -> bool:
        return layer in (0, self.depth)

    def run(self, start: int, stop: int, *inputs: Tensor) -> Tensor:
        assert (start, stop) in ((0, self.depth), (self.depth, self.depth))
        if start:
            return inputs[0]
        ids, mask = inputs
        features: Tensor = self._model.text_encoder(ids, mask)
        return features

    def head(self, features: Tensor) -> Tensor:
        rows: Tensor = self._model.text_projection(features)
        return rows

    def eval_below(self, layer: int) -> None:
        if layer == self.depth:
            self._model.text_encoder.eval()
