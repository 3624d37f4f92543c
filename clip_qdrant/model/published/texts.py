"""The tokenizer of a published model, and how its texts are prepared, cut and padded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.families import FAMILIES, PREPARATIONS, SIGLIP, count_tokens
from clip_qdrant.model.published.hub import load_hub_tokenizer
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["make_tokenization", "read_tokenizer"]


def read_tokenizer(name: str, family: str) -> tuple[str, Mapping[str, bool]]:
    """The text of a tokenizer.json, and how texts are prepared before it."""
    preparation = _find_preparation(name, family)
    if preparation is not SIGLIP:
        backend = getattr(load_hub_tokenizer(name, f"hf:{name}"), "backend_tokenizer", None)
        if backend is not None:
            return str(backend.to_str()), preparation
    # SigLIP's own tokenizer class runs on sentencepiece; the tokenizer.json beside it holds the same vocabulary.
    try:
        path = cached_file(name, "tokenizer.json")
    except OSError as error:
        raise CheckpointError(f"hf:{name} has no tokenizer.json: {error}") from error
    return Path(str(path)).read_text(encoding="utf-8"), preparation


def _find_preparation(name: str, family: str) -> Mapping[str, bool]:
    """What is done to texts that no file of the model says: SigLIP 2 models call themselves siglip, and use Gemma's."""
    declared = str(get_tokenizer_config(name).get("tokenizer_class") or "")
    if family == "siglip" and not declared:
        return SIGLIP
    return next((how for start, how in PREPARATIONS.get(family, {}).items() if declared.startswith(start)), {})


def make_tokenization(tokenizer: str, config: Any, family: str, preparation: Mapping[str, bool]) -> Tokenization:
    vocabulary = {entry["content"]: entry["id"] for entry in json.loads(tokenizer).get("added_tokens", [])}
    pad_id = config.text_config.pad_token_id
    names = {index: token for token, index in vocabulary.items()}
    if family == "clip":
        # CLIP pads with its end token; the position of the first one is what it pools.
        pad_id = vocabulary.get("<|endoftext|>", pad_id)
    if pad_id is None:
        pad_id = 0
    return Tokenization(
        max_length=count_tokens(FAMILIES[family], config.text_config),
        padding=FAMILIES[family].padding,
        pad_id=int(pad_id),
        pad_token=names.get(pad_id, "<pad>"),
        canonicalize=preparation.get("canonicalize", False),
        lower_case=preparation.get("lower_case", False),
    )
