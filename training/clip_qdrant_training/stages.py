"""Which layer of an encoder a parameter belongs to, and an image encoder as stages that run one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from clip_qdrant.model.dual_encoder import DualEncoder, ImageEncoder

__all__ = ["Stage", "image_depth", "image_stage", "image_stages", "text_depth", "text_layer"]

Stage = Callable[[Tensor], Tensor]


def image_stages(encoder: ImageEncoder) -> list[Stage]:
    """The encoder as functions whose composition is its forward pass, from the stem to pooled features.

    EfficientNet, ResNet, ConvNeXt and ViT families are known to be sequences; anything else is one stage.
    """
    model = encoder.model

    def head(maps: Tensor) -> Tensor:
        pooled: Tensor = model.forward_head(maps)
        return pooled

    blocks = _blocks(model)
    if hasattr(model, "conv_stem") and hasattr(model, "conv_head") and blocks:
        return [_chain(model.conv_stem, model.bn1), *blocks, _chain(model.conv_head, model.bn2, head)]
    if hasattr(model, "conv1") and hasattr(model, "layer4") and hasattr(model, "maxpool"):
        return [_chain(model.conv1, model.bn1, model.act1, model.maxpool), *blocks, head]
    if hasattr(model, "patch_embed") and hasattr(model, "_pos_embed") and hasattr(model, "norm_pre"):
        stem = _chain(model.patch_embed, model._pos_embed, model.patch_drop, model.norm_pre)
        return [stem, *blocks, _chain(model.norm, head)]
    if hasattr(model, "stem") and hasattr(model, "stages") and hasattr(model, "norm_pre"):
        return [model.stem, *blocks, _chain(model.norm_pre, head)]
    return [encoder]


def image_depth(encoder: ImageEncoder) -> int:
    """How many stages the image encoder has."""
    return len(image_stages(encoder))


def image_stage(name: str, encoder: ImageEncoder) -> int:
    """The stage that holds the parameter `name` of the encoder (as in `model.blocks.2.0.conv_pw.weight`)."""
    depth = image_depth(encoder)
    if depth == 1:
        return 0
    if found := re.match(r"model\.(?:blocks|stages)\.(\d+)\.", name):
        return 1 + int(found[1])
    if found := re.match(r"model\.layer(\d+)\.", name):
        return int(found[1])
    last = re.match(r"model\.(conv_head|bn2|norm\.|fc_norm|head|attn_pool|fc\.)", name)
    return depth - 1 if last else 0


def text_depth(model: DualEncoder) -> int:
    """The layers of the text encoder, the word embeddings counted as the first."""
    return 1 + max((text_layer(name) for name, _ in model.text_encoder.named_parameters()), default=0)


def text_layer(name: str) -> int:
    """The layer that holds the parameter `name` of the text encoder: 0 for embeddings, then from 1."""
    found = re.search(r"\.(?:layer|layers|block|h)\.(\d+)\.", name)
    return 1 + int(found[1]) if found else 0


def _blocks(model: Any) -> Sequence[Stage]:
    for name in ("blocks", "stages"):
        if hasattr(model, name):
            return list(getattr(model, name))
    return [getattr(model, f"layer{number}") for number in range(1, 5) if hasattr(model, f"layer{number}")]


def _chain(*steps: Stage) -> Stage:
    def run(value: Tensor) -> Tensor:
        for step in steps:
            value = step(value)
        return value

    return run
