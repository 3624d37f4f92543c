"""Tiny models of the families that others publish, as the hub has them, with weights that tell inputs apart."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn
from varied import VARIED_TEXTS
from vocabularies import (
    write_bert_tokenizer,
    write_clip_tokenizer,
    write_gemma_tokenizer,
    write_roberta_tokenizer,
    write_siglip_tokenizer,
)

__all__ = ["PUBLISHED", "Published", "embed_images", "embed_texts", "save_published", "save_real", "spread_weights"]

Values = dict[str, Any]
_BLOCKS: Values = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_WIDE: Values = {**_BLOCKS, "hidden_size": 48, "num_attention_heads": 4}
_SIZE: Values = {"image_size": 32, "patch_size": 8}
_CLIP_MEAN = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_SQUARE = {"height": 32, "width": 32}
_CROP: Values = {"size": {"shortest_edge": 32}, "crop_size": _SQUARE, "resample": 3, "do_center_crop": True}


@dataclass(frozen=True)
class Published:
    """One family as the hub has it, and how its model card says to call it."""

    text: Values
    image: Values
    processor: Values
    write_tokenizer: Callable[[Path], int]  # the number of tokens
    own: Values = field(default_factory=dict)  # of the configuration beside the two
    padding: str | bool = True
    max_length: int = 77
    prepare: Callable[[str], str] = str  # what the model card says to do to a text
    takes_mask: bool = True
    model_type: str = ""  # where it is not the name of the row
    own_tokenizer: bool = True  # whether transformers' class of it runs on what the tests have


def save_published(name: str, folder: Path, *, seed: int = 0, layers: int = 2, **own: Any) -> Path:
    """A tiny model: configuration, weights, tokenizer, preprocessing."""
    row = PUBLISHED[name]
    family = row.model_type or name
    folder.mkdir(parents=True, exist_ok=True)
    size = row.write_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(row.processor))
    text, image = {**row.text, "vocab_size": size}, dict(row.image)
    for part in (text, image):
        part |= {"num_hidden_layers": layers} if "num_hidden_layers" in part else {}
    config = transformers.AutoConfig.for_model(family, text_config=text, vision_config=image, **{**row.own, **own})
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(config)
    spread_weights(model)
    model.save_pretrained(folder)
    return folder


def save_real(name: str, folder: Path, *, text: Values, image: Values, own: Values, side: int) -> Path:
    """A model of real size with random weights, and a tokenizer and preprocessing like those of a tiny one."""
    row = PUBLISHED[name]
    folder.mkdir(parents=True)
    size = row.write_tokenizer(folder)
    processor = {**row.processor, "size": _scale(row.processor.get("size"), side)}
    if "crop_size" in processor:
        processor["crop_size"] = {"height": side, "width": side}
    if "patch_size" in processor:
        processor |= {"patch_size": 16, "max_num_patches": 256}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    # What the processor of the tiny model pads to and cuts at is a limit of the tokenizer, which stays.
    config = transformers.AutoConfig.for_model(
        row.model_type or name,
        text_config={**text, "vocab_size": max(size, text.get("vocab_size", size))},
        vision_config=image,
        **own,
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    # In a dozen layers or more, larger gains make a chaos of rounding: torch's float32 is 0.9992 of its float64 then.
    spread_weights(model, attention=2, others=1)
    model.save_pretrained(folder)
    return folder


def _scale(size: Values | None, side: int) -> Values | None:
    """A size of images of 32 pixels, for others."""
    return size and {name: value * side // 32 for name, value in size.items()}


def _unit(rows: torch.Tensor) -> np.ndarray:
    return np.asarray(torch.nn.functional.normalize(rows.float(), dim=-1))


def embed_images(model: Any, folder: Path, images: list[Image.Image]) -> np.ndarray:
    """Unit rows of images, by transformers' own processor and model."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = [processor(images=image, return_tensors="pt") for image in images]
        return np.concatenate([_unit(model.get_image_features(**each).pooler_output) for each in inputs])


def embed_texts(model: Any, folder: Path, row: Published, texts: list[str]) -> np.ndarray:
    """Unit rows of texts, by transformers' own tokenizer and model, one by one."""
    if row.own_tokenizer:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    else:  # its class needs a library that is not installed
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="</s>", eos_token="</s>", unk_token="<unk>"
        )
    names = ["input_ids", "attention_mask"] if row.takes_mask else ["input_ids"]
    options = {"padding": row.padding, "truncation": True, "max_length": row.max_length, "return_tensors": "pt"}
    with torch.inference_mode():
        inputs = [tokenizer([row.prepare(text)], **options) for text in texts]
        rows = [model.get_text_features(**{name: each[name] for name in names}).pooler_output for each in inputs]
        return np.concatenate([_unit(row) for row in rows])


def spread_weights(model: nn.Module, *, attention: float = 6, others: float = 2) -> None:
    """A fresh network gives nearly the same row to everything. The gains are those of its text encoder."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name or "probe" in name:
                nn.init.normal_(parameter, std=0.5)
            elif parameter.ndim > 1:
                # Attention that looks somewhere lets texts differ. Images that differ by a rounding must not.
                looks = any(part in name for part in ("query", "key", "q_proj", "k_proj"))
                gain = (attention if looks else others) if "text" in name else 1
                nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1 and name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        if norms:  # set by what they see
            for norm in norms:
                norm.momentum = None
            coarse = torch.randn(32, 3, 4, 4)
            model.train().get_image_features(pixel_values=nn.functional.interpolate(coarse, size=(32, 32)))
            model.eval()


def _write_gemma(folder: Path) -> int:
    """Of the letters that the texts of the tests have, and two words."""
    letters = sorted({letter for text in VARIED_TEXTS for letter in text + text.lower()} - {" "})
    return write_gemma_tokenizer(
        folder, letters=letters, merges=[("o", "g"), ("d", "og"), ("\u2581", "dog"), ("\u2581", "a")]
    )


def _canonicalize(text: str) -> str:
    """Lower case without punctuation between the special tokens, as SigLIP's own tokenizer class does."""
    parts = re.split("(<pad>|</s>|<unk>)", text)
    parts[::2] = [part.lower().translate(str.maketrans("", "", string.punctuation)) for part in parts[::2]]
    return "".join(" ".join(part.split()) for part in parts)


_EFFICIENTNET: Values = {
    "image_size": 32,
    "width_coefficient": 0.25,
    "depth_coefficient": 1.0,
    "depth_divisor": 4,
    "in_channels": [32, 32, 48],
    "out_channels": [32, 48, 96],
    "kernel_sizes": [3, 3, 5],
    "strides": [1, 2, 1],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 4, 4],
    "hidden_dim": 24,
    "pooling_type": "mean",
}

PUBLISHED: Mapping[str, Published] = {
    "clip": Published(
        text={**_BLOCKS, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1, "hidden_act": "quick_gelu"},
        image={**_WIDE, **_SIZE},
        own={"projection_dim": 24},
        processor={"image_processor_type": "CLIPImageProcessor", **_CROP, **_CLIP_MEAN},
        write_tokenizer=write_clip_tokenizer,
    ),
    "metaclip_2": Published(
        text={**_BLOCKS, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        image={**_WIDE, **_SIZE},
        own={"projection_dim": 24},
        processor={"image_processor_type": "CLIPImageProcessor", **_CROP, **_CLIP_MEAN},
        write_tokenizer=write_roberta_tokenizer,
        max_length=64,
    ),
    "chinese_clip": Published(
        text={**_BLOCKS, "max_position_embeddings": 64},
        image={**_WIDE, **_SIZE},
        own={"projection_dim": 24},
        processor={
            "image_processor_type": "ChineseCLIPImageProcessor",
            "size": _SQUARE,
            "do_center_crop": False,
            "resample": 3,
            **_CLIP_MEAN,
        },
        write_tokenizer=partial(write_bert_tokenizer, length=64),
        max_length=64,
    ),
    "altclip": Published(
        text={**_BLOCKS, "max_position_embeddings": 66, "project_dim": 40},
        image={**_WIDE, **_SIZE},
        own={"projection_dim": 24},
        processor={"image_processor_type": "CLIPImageProcessor", **_CROP, **_CLIP_MEAN},
        write_tokenizer=write_roberta_tokenizer,
        max_length=64,
    ),
    "align": Published(
        text={**_BLOCKS, "max_position_embeddings": 96},
        image=_EFFICIENTNET,
        own={"projection_dim": 24},
        processor={
            "image_processor_type": "EfficientNetImageProcessor",
            "size": {"height": 38, "width": 38},
            "crop_size": _SQUARE,
            "do_center_crop": True,
            "resample": 2,
            **_HALVES,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "include_top": False,
        },
        write_tokenizer=partial(write_bert_tokenizer, length=64),
        padding="max_length",
        max_length=64,
    ),
    "siglip": Published(
        text={**_BLOCKS, "max_position_embeddings": 64},
        image={**_BLOCKS, **_SIZE},
        processor={"image_processor_type": "SiglipImageProcessor", "size": _SQUARE, "resample": 3, **_HALVES},
        write_tokenizer=write_siglip_tokenizer,
        padding="max_length",
        max_length=64,
        prepare=_canonicalize,
        takes_mask=False,
        own_tokenizer=False,
    ),
    "siglip2 of fixed size": Published(
        text={**_BLOCKS, "max_position_embeddings": 64},
        image={**_BLOCKS, **_SIZE},
        processor={"image_processor_type": "SiglipImageProcessor", "size": _SQUARE, "resample": 2, **_HALVES},
        write_tokenizer=_write_gemma,
        padding="max_length",
        max_length=64,
        prepare=str.lower,
        takes_mask=False,
        model_type="siglip",
    ),
    "siglip2": Published(
        text={**_BLOCKS, "max_position_embeddings": 64},
        image={**_BLOCKS, "patch_size": 8, "num_patches": 16},
        processor={
            "image_processor_type": "Siglip2ImageProcessor",
            "patch_size": 8,
            "max_num_patches": 64,
            "resample": 2,
            **_HALVES,
        },
        write_tokenizer=_write_gemma,
        padding="max_length",
        max_length=64,
        prepare=str.lower,
        takes_mask=False,
    ),
}
