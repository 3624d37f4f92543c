"""Which layer of an encoder a parameter belongs to, and an image encoder as stages that run one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from timm.models.convnext import ConvNeXt
from timm.models.davit import DaVit
from timm.models.edgenext import EdgeNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from clip_qdrant.model.dual_encoder import DualEncoder, ImageEncoder

__all__ = ["StageFunction", "image_depth", "image_stage", "image_stages", "text_depth", "text_layer"]

StageFunction = Callable[[Tensor], Tensor]

_AFTER_THE_LAYERS = re.compile(r"\.(?:final_layer_norm|final_norm|ln_f|norm|head)\.")


@dataclass(frozen=True)
class _TimmKind:
    """How the networks of one timm class run: `first`, the stages one by one, `last`; names of modules and methods."""

    network: Any
    first: tuple[str, ...]
    stages: str | tuple[str, ...]  # a sequence of stages, or the stages themselves
    last: tuple[str, ...]


_FAMILIES = (
    _TimmKind(EfficientNet, ("conv_stem", "bn1"), "blocks", ("conv_head", "bn2", "forward_head")),
    _TimmKind(MobileNetV3, ("conv_stem", "bn1"), "blocks", ("forward_head",)),
    _TimmKind(ResNet, ("conv1", "bn1", "act1", "maxpool"), ("layer1", "layer2", "layer3", "layer4"), ("forward_head",)),
    _TimmKind(
        VisionTransformer,
        ("patch_embed", "_pos_embed", "patch_drop", "norm_pre"),
        "blocks",
        ("norm", "forward_head"),
    ),
    *(_TimmKind(each, ("stem",), "stages", ("norm_pre", "forward_head")) for each in (ConvNeXt, DaVit, EdgeNeXt)),
)


def image_stages(encoder: ImageEncoder) -> list[StageFunction]:
    """The encoder as functions whose composition is its forward pass, from the stem to pooled features.

    EfficientNet, MobileNet, ResNet, ConvNeXt and ViT families are known to be sequences; anything else is one stage.
    """
    steps = _steps(encoder.model)
    return [_chain([attrgetter(name)(encoder.model) for name in stage]) for stage in steps] if steps else [encoder]


def image_depth(encoder: ImageEncoder) -> int:
    """How many stages the image encoder has."""
    return len(image_stages(encoder))


def image_stage(name: str, encoder: ImageEncoder) -> int:
    """The stage that holds the parameter `name` of the encoder (as in `model.blocks.2.0.conv_pw.weight`)."""
    steps, inner = _steps(encoder.model), name.removeprefix("model.")
    if not steps:
        return 0
    for number, stage in enumerate(steps):
        if any(inner.startswith(f"{step}.") for step in stage):
            return number
    # A ViT has its class token and its positions itself; what else no stage names is used by forward_head.
    return len(steps) - 1 if "." in inner else 0


def text_depth(model: DualEncoder) -> int:
    """The layers of the text encoder, the word embeddings counted as the first."""
    return 1 + max((text_layer(name, 1) for name, _ in model.text_encoder.named_parameters()), default=0)


def text_layer(name: str, depth: int) -> int:
    """The layer, of `depth`, that holds the parameter `name` of the text encoder: 0 for embeddings, then from 1.

    What comes after the last layer counts as part of it.
    """
    found = re.search(r"\.(?:layer|layers|block|h)\.(\d+)\.", name)
    if found:
        return 1 + int(found[1])
    return depth - 1 if _AFTER_THE_LAYERS.search(name) else 0


def _steps(model: Any) -> list[tuple[str, ...]]:
    """The names of what each stage calls in turn; none for a network that is no known sequence.

    A subclass counts only if its forward pass is that of its family: some of them pass more than one tensor along.
    """
    for family in _FAMILIES:
        passes = ("forward_features", "forward")
        if all(getattr(type(model), name, None) is getattr(family.network, name) for name in passes):
            stages: Sequence[str] = family.stages
            if isinstance(family.stages, str):
                stages = [f"{family.stages}.{number}" for number in range(len(getattr(model, family.stages)))]
            return [family.first, *((stage,) for stage in stages), family.last]
    return []


def _chain(steps: Sequence[StageFunction]) -> StageFunction:
    def run(value: Tensor) -> Tensor:
        for step in steps:
            value = step(value)
        return value

    return run
