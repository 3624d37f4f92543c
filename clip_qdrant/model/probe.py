"""Whether a checkpoint does what an embedder will ask of it, tried before anybody relies on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model_inputs.tokenization import TextTokenizer

__all__ = ["probe_checkpoint"]

_MOST_GROWTH = 1000  # characters that the rules of a tokenizer may make of one
_MOST_ADDED = 64  # tokens that a tokenizer adds to each text; BERT's and CLIP's add two
_TEXTS = ("a photo of a dog", "Two cats, 3.5 m apart: don't STOP!! 猫 " * 20, "a" * 60 + "!")


def probe_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Raises CheckpointError, naming `path`, unless a few texts become unit rows of the right length.

    A tokenizer is a program of a kind, so that what it makes of a text is bounded before one is given to it.
    """
    try:
        _check_growth(json.loads(checkpoint.tokenizer))
        tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    except CheckpointError as error:
        raise CheckpointError(f"{path} holds a tokenizer that cannot be used: {error}") from error
    except Exception as error:  # the tokenizers library raises Exception itself
        raise CheckpointError(f"{path} holds a tokenizer that cannot be read: {first_line(error)}") from error
    words = checkpoint.model.vocabulary
    if tokenize.largest_id >= words:
        raise CheckpointError(
            f"{path} holds a tokenizer with the token {tokenize.largest_id}, and its text encoder knows only the first "
            f"{words}"
        )
    try:
        ids, mask = tokenize(_TEXTS)
        with torch.inference_mode():
            rows = checkpoint.model.encode_text(torch.from_numpy(ids[:1]), torch.from_numpy(mask[:1]))
    except Exception as error:  # whatever a network makes of its numbers
        raise CheckpointError(f"{path} holds a model that embeds no text: {first_line(error)}") from error
    if rows.shape != (1, checkpoint.model.dim):
        raise CheckpointError(
            f"{path} makes rows of {rows.shape[-1]} numbers of texts, and says {checkpoint.model.dim}"
        )


def _check_growth(tokenizer: Any) -> None:
    growth, added = 1, 0
    for rule in _walk(tokenizer.get("normalizer")):
        content = rule.get("content", rule.get("prepend"))
        growth *= max(1, len(content)) if isinstance(content, str) else 1
    for rule in _walk(tokenizer.get("post_processor")):
        ids = {name: len(token["ids"]) for name, token in (rule.get("special_tokens") or {}).items()}
        for piece in rule.get("single") or ():
            added += ids.get(piece.get("SpecialToken", {}).get("id"), 0)
    if growth > _MOST_GROWTH:
        raise CheckpointError(f"its normalizer makes {growth:,} characters of one")
    if added > _MOST_ADDED:
        raise CheckpointError(f"it adds {added:,} tokens to each text")


def _walk(rule: Any) -> Iterator[dict[str, Any]]:
    """A rule, and those that it is a sequence of."""
    if isinstance(rule, dict):
        yield rule
        for name in ("normalizers", "processors"):
            for inner in rule.get(name) or ():
                yield from _walk(inner)
