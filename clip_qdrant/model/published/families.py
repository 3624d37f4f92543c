"""The families of models of transformers that load here: a row of data each.

A row says what no file of a model says: how its texts are padded, whether its text encoder looks at the mask, and which
values of its configuration change vectors though neither names nor shapes of weights show them. Those are in the
fingerprint, and nothing else of the configuration is: transformers adds values from version to version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["FAMILIES", "SIGLIP", "ModelFamily", "count_tokens", "explain_family"]

_BLOCKS = ("hidden_act", "layer_norm_eps", "num_attention_heads")
SIGLIP = {"canonicalize": True}
SIGLIP2 = {"lower_case": True}


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """One `model_type` of transformers whose images and texts share a space."""

    name: str
    # Of text_config and vision_config: what changes vectors and is not seen in names and shapes of weights.
    text_values: tuple[str, ...] = _BLOCKS
    image_values: tuple[str, ...] = _BLOCKS
    # Where the configuration has the length of a vector, and what of vision_config makes one vector of an image.
    dim: tuple[str, ...] = ("projection_dim",)
    pooling: str | None = None
    # The rest is about texts. Without the mask, padding is text to the encoder, and belongs to what it was trained on.
    takes_mask: bool = True
    padding: Literal["longest", "max_length"] = "longest"
    max_tokens: int | None = None  # where the family's processor has its own limit, below that of the positions
    positions_after_pad: bool = False  # RoBERTa counts positions from pad_token_id + 1
    # By how the class of the tokenizer begins: what the texts were that the model was trained with, where its files do
    # not do it. The first that fits is taken.
    preparations: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    # Images keep their shape and become a row of patches, each with its place (NaFlex).
    patches: bool = False


FAMILIES: Mapping[str, ModelFamily] = {
    row.name: row
    for row in (
        ModelFamily("clip", text_values=(*_BLOCKS, "eos_token_id")),
        ModelFamily("metaclip_2", text_values=(*_BLOCKS, "eos_token_id")),
        ModelFamily("chinese_clip"),
        ModelFamily("altclip", text_values=(*_BLOCKS, "pad_token_id"), positions_after_pad=True),
        ModelFamily(
            "align",
            image_values=("hidden_act", "batch_norm_eps", "pooling_type", "strides", "depthwise_padding"),
            max_tokens=64,
        ),
        ModelFamily(
            "siglip",
            dim=("vision_config", "hidden_size"),
            pooling="vision_use_head",
            takes_mask=False,
            padding="max_length",
            # SigLIP 2 models of fixed size call themselves siglip, and bring Gemma's tokenizer.
            preparations={"Siglip2Tokenizer": SIGLIP2, "Gemma": SIGLIP2, "SiglipTokenizer": SIGLIP},
        ),
        ModelFamily(
            "siglip2",
            dim=("vision_config", "hidden_size"),
            pooling="vision_use_head",
            takes_mask=False,
            padding="max_length",
            max_tokens=64,
            preparations={"": SIGLIP2},
            patches=True,
        ),
    )
}

_TEXT = "a text model: it can be the text encoder of a new model (text_encoder of clip-qdrant train)"
_IMAGE = "an image model without texts; as the image encoder of a new model timm's are taken (image_encoder)"
_HALF = "one half of an image-text model: take the whole, which has both encoders"
_DETECTOR = "made to find or cut out things in images; it was not trained to give one vector an image"
_VIDEO = "for videos"
_SOUND = "for sounds"
_LATE = "a model of late interaction, which gives many vectors an image"
_CHAT = "a language model that sees images; it gives no vector of one space for both"
_KINDS: Mapping[str, tuple[str, ...]] = {
    _TEXT: (
        *("bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "electra", "deberta", "deberta-v2", "camembert"),
        *("albert", "modernbert", "nomic_bert", "new", "ernie", "roformer"),
    ),
    _IMAGE: (
        *("vit", "deit", "beit", "swin", "swinv2", "convnext", "convnextv2", "resnet", "dinov2", "dinov3_vit", "ijepa"),
        *("efficientnet", "regnet", "timm_wrapper", "dinov2_with_registers", "dinov3_convnext", "mobilenet_v2"),
    ),
    _HALF: tuple(f"{family}_{half}_model" for family in FAMILIES for half in ("text", "vision")),
    _DETECTOR: (
        "owlvit",
        "owlv2",
        "clipseg",
        "groupvit",
        "grounding-dino",
        "sam",
        "sam2",
        "sam3",
        "detr",
        "mask2former",
    ),
    _VIDEO: ("xclip", "videoprism", "pe_video", "vjepa2", "video_llava"),
    _SOUND: ("clap", "clvp", "pe_audio", "whisper", "wav2vec2"),
    _LATE: ("colpali", "colqwen2", "colmodernvbert"),
    _CHAT: ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma", "blip-2", "florence2", "kosmos-2"),
    "a model whose published weights have no vector of one space for images and texts that transformers reads": (
        *("blip", "flava", "bridgetower", "vilt"),
    ),
    "a pair of models of any kind, of which transformers does not say how they see images and texts": (
        "vision-text-dual-encoder",
    ),
    "a model to which transformers gives other vectors in a batch than alone": ("aimv2",),
    "a model with code of its own, which is not run here": ("jina_clip", "nomic_vision"),
}


def count_tokens(row: ModelFamily, text_config: Any) -> int:
    """How many tokens of a text the encoder takes, by its configuration and its family's processor."""
    positions = int(text_config.max_position_embeddings)
    if row.positions_after_pad:
        positions -= int(text_config.pad_token_id) + 1
    return positions if row.max_tokens is None else min(positions, row.max_tokens)


def explain_family(name: object) -> str:
    """What a model of a `model_type` without a row is, as far as is known, and what there is instead."""
    kind = next((kind for kind, names in _KINDS.items() if name in names), None)
    known = f"models of the families {', '.join(FAMILIES)} load"
    return f"is a {name} model; {known}" if kind is None else f"is a {name} model, {kind}; {known}"
