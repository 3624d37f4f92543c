"""Tiny published models with random weights, in memory: as they are once they have been loaded."""

from __future__ import annotations

import json
from typing import Any

import torch
from tiny import COLOURS, WORDS, word_tokenizer
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.published.encoder import HubEncoder
from clip_qdrant.model.published.open_clip.network import build_open_clip
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

SIZE, LENGTH = 32, 12
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_CENTRED = Preprocessing(image_size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def tiny_published(family: str, *, seed: int = 0) -> Checkpoint:
    """A "clip" or "siglip" of transformers, or an "open_clip", with two layers in each encoder."""
    tokenizer = word_tokenizer(WORDS + list(COLOURS))
    words = len(json.loads(tokenizer)["model"]["vocab"])
    torch.manual_seed(seed)
    model, padding = _MAKERS[family](words)
    for parameter in model.parameters():  # fresh weights give nearly the same row to everything
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    tokenization = Tokenization(max_length=LENGTH, padding=padding)
    return Checkpoint(model.eval(), _CENTRED, tokenization, tokenizer, trained_on=(f"hf:tiny-{family}",))


def _make_clip(words: int) -> tuple[nn.Module, Any]:
    text = {**_SMALL, "vocab_size": words, "max_position_embeddings": LENGTH, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**_SMALL, "image_size": SIZE, "patch_size": 8}
    config = CLIPConfig(text_config={**text, "pad_token_id": 0}, vision_config=vision, projection_dim=24)
    return HubEncoder(CLIPModel(config), _CENTRED), "longest"


def _make_siglip(words: int) -> tuple[nn.Module, Any]:
    text = {**_SMALL, "vocab_size": words, "max_position_embeddings": LENGTH, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**_SMALL, "image_size": SIZE, "patch_size": 8}
    model = SiglipModel(SiglipConfig(text_config={**text, "pad_token_id": 0}, vision_config=vision))
    with torch.no_grad():  # as a trained one has them
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-5.0)
    return HubEncoder(model, _CENTRED), "max_length"


def _make_open_clip(words: int) -> tuple[nn.Module, Any]:
    vision = {"image_size": SIZE, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": LENGTH, "vocab_size": words, "width": 32, "heads": 2, "layers": 2}
    text |= {"pool_type": "eos", "eos_id": 3}
    return build_open_clip(
        {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}}, _CENTRED
    ), "longest"


_MAKERS = {"clip": _make_clip, "siglip": _make_siglip, "open_clip": _make_open_clip}
