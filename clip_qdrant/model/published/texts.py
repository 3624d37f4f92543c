"""The tokenizer of a published model, and how its texts are prepared, cut and padded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from clip_qdrant.errors import CheckpointError
from clip_qdrant.hub.files import TOKENIZERS
from clip_qdrant.model.published.families import FAMILIES, SIGLIP, count_tokens
from clip_qdrant.model.published.hub import load_hub_tokenizer
from clip_qdrant.model.published.sentencepiece import convert_siglip
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["read_texts"]

_SIGLIP_MODEL = "spiece.model"


def read_texts(folder: Path, config: Any, label: str) -> tuple[str, Tokenization]:
    """The text of a tokenizer.json, and how texts are prepared before it, cut and padded. `label` is for messages.

    Raises CheckpointError where files are missing, or the tokenizer knows tokens that the text encoder does not.
    """
    row = FAMILIES[str(config.model_type)]
    _check_files(folder, label)
    declared = _read_json(folder / "tokenizer_config.json")
    kind = str(declared.get("tokenizer_class") or ("SiglipTokenizer" if row.name == "siglip" else ""))
    preparation = next((how for start, how in row.preparations.items() if kind.startswith(start)), {})
    if preparation is SIGLIP:
        # SigLIP's own class needs the sentencepiece library; its vocabulary is read without it.
        text, pad, side, longest = _read_siglip(folder, declared, label)
    else:
        loaded = load_hub_tokenizer(str(folder), label)
        backend = getattr(loaded, "backend_tokenizer", None)
        if backend is None:
            raise CheckpointError(f"{label} has a {type(loaded).__name__}, which the tokenizers library cannot run")
        text, pad, side, longest = (
            str(backend.to_str()),
            loaded.pad_token,
            loaded.padding_side,
            loaded.model_max_length,
        )
        if loaded.truncation_side != "right":
            raise CheckpointError(f"{label} cuts texts on their {loaded.truncation_side}, which is not done here")
    tokenizer = Tokenizer.from_str(text)
    largest, known = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0), config.text_config.vocab_size
    if largest >= known:
        raise CheckpointError(
            f"{label} has a tokenizer of {largest + 1} tokens, and its text encoder knows only {known}: are they of "
            "one model?"
        )
    pad_id = tokenizer.token_to_id(str(pad)) if pad is not None else None
    if pad_id is None:
        pad_id, pad = int(getattr(config.text_config, "pad_token_id", None) or 0), "<pad>"
    return text, Tokenization(
        max_length=min(count_tokens(row, config.text_config), int(longest)),
        padding=row.padding,
        pad_id=pad_id,
        pad_token=str(pad),
        pad_left=side == "left",
        canonicalize=preparation.get("canonicalize", False),
        lower_case=preparation.get("lower_case", False),
    )


def _check_files(folder: Path, label: str) -> None:
    there = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not there:
        raise CheckpointError(
            f"{label} has no tokenizer: one of {', '.join(TOKENIZERS)} is needed; copy it from the model it was made of"
        )
    if there == ["vocab.json"] and not (folder / "merges.txt").is_file():
        raise CheckpointError(f"{label} has no whole tokenizer: merges.txt, which belongs to vocab.json, is missing")


def _read_siglip(folder: Path, declared: Mapping[str, Any], label: str) -> tuple[str, str, str, int]:
    """tokenizer.json, pad token, side and length, as SiglipTokenizer of transformers has them by default."""
    file = folder / "tokenizer.json"
    text = file.read_text(encoding="utf-8") if file.is_file() else convert_siglip(folder / _SIGLIP_MODEL, label)
    pad = declared.get("pad_token", "</s>")
    pad = pad.get("content") if isinstance(pad, Mapping) else pad
    return text, str(pad), str(declared.get("padding_side", "right")), int(declared.get("model_max_length") or 64)


def _read_json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    values = json.loads(file.read_text(encoding="utf-8"))
    return values if isinstance(values, dict) else {}
