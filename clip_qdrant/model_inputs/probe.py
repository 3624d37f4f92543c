"""Whether a tokenizer from a file is one that can be used, before a text is given to it.

A tokenizer is a program of a kind, so that what it makes of a text is bounded first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization

__all__ = ["probe_tokenizer"]

_MOST_GROWTH = 1000  # characters that the rules of a tokenizer may make of one
_MOST_ADDED = 64  # tokens that a tokenizer adds to each text; BERT's and CLIP's add two


def probe_tokenizer(tokenizer: str, tokenization: Tokenization, vocabulary: int, path: str | Path) -> TextTokenizer:
    """The tokenizer of a text encoder that knows `vocabulary` token ids. Raises CheckpointError, naming `path`."""
    try:
        _check_growth(json.loads(tokenizer))
        tokenize = TextTokenizer(tokenizer, tokenization)
    except CheckpointError as error:
        raise CheckpointError(f"{path} holds a tokenizer that cannot be used: {error}") from error
    except Exception as error:  # the tokenizers library raises Exception itself
        raise CheckpointError(f"{path} holds a tokenizer that cannot be read: {first_line(error)}") from error
    if tokenize.largest_id >= vocabulary:
        raise CheckpointError(
            f"{path} holds a tokenizer with the token {tokenize.largest_id}, and its text encoder knows only the first "
            f"{vocabulary}"
        )
    return tokenize


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
