"""Which parameters learn."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.network.stages import image_depth, image_stage, text_depth, text_layer

__all__ = ["Freezing"]


class Freezing:
    """Which parameters learn.

    `stages` is how many of the image encoder's first stages never learn, `text` whether the text encoder never does:
    what lies below can be computed once.
    """

    def __init__(self, model: DualEncoder, config: TrainConfig) -> None:
        self.config = config
        self.depths = {"image_encoder": image_depth(model.image_encoder), "text_encoder": text_depth(model)}
        for field, part in (("frozen_stages", "image_encoder"), ("frozen_layers", "text_encoder")):
            what, asked, depth = field.removeprefix("frozen_"), getattr(config, field), self.depths[part]
            if asked > depth:
                raise ConfigError(
                    f"{field} is {asked}: the {part} has {depth} {what}; give {depth} to freeze all of it"
                )
        unused = [p for p in config.freeze if not any(fnmatchcase(name, p) for name, _ in model.named_parameters())]
        if unused:
            raise ConfigError(
                f"freeze holds {unused[0]!r}, which no parameter matches; a name is like {_a_name(model)!r}"
            )
        whole_image = config.freeze_encoders or config.image_lr == 0
        self.stages = self.depths["image_encoder"] if whole_image else config.frozen_stages
        self.text = config.freeze_encoders or config.text_lr == 0 or config.frozen_layers == self.depths["text_encoder"]
        if config.batch_norm == "train" and self.stages:
            raise ConfigError("batch_norm is 'train' with frozen stages, whose statistics stay: use batch_norm=frozen")

    def apply(self, model: DualEncoder) -> None:
        """Set `requires_grad` of every parameter."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.learns(name, model))

    def learns(self, name: str, model: DualEncoder) -> bool:
        """Whether a parameter learns."""
        part, layer = _find_layer(name, model, self.depths)
        if any(fnmatchcase(name, pattern) for pattern in self.config.freeze):
            return False
        if part == "image_encoder":
            return layer >= self.stages
        if part == "text_encoder":
            return not self.text and layer >= self.config.frozen_layers
        # A concept head's classifier belongs to the image encoder it was trained with, and is frozen with it.
        whole = self.stages == self.depths["image_encoder"]
        return not (whole and name.startswith("image_projection.classifier."))


def _find_layer(name: str, model: DualEncoder, depths: Mapping[str, int]) -> tuple[str, int]:
    """The part of the model that a parameter belongs to, and its layer there. `depths` counts the layers of parts."""
    part, _, rest = name.partition(".")
    if part == "image_encoder":
        return part, image_stage(rest, model.image_encoder)
    return part, text_layer(rest, depths[part]) if part == "text_encoder" else 0


def _a_name(model: nn.Module) -> str:
    return next(name for name, _ in model.named_parameters())
