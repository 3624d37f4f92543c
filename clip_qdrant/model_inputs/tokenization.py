"""Texts to token ids with the `tokenizers` library alone: the same rows for both runtimes, no transformers import."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from clip_qdrant.errors import ConfigError

__all__ = ["TextTokenizer", "Tokenization"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Tokenization:
    """How one encoder wants its texts; part of its fingerprint. Longer texts are truncated to `max_length` tokens."""

    max_length: int
    padding: Literal["longest", "max_length"] = "longest"
    pad_id: int = 0
    pad_token: str = "[PAD]"
    canonicalize: bool = False  # lower case without ASCII punctuation, as SigLIP (Zhai et al. 2023) was trained

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TextTokenizer:
    """A tokenizer.json with one encoder's truncation and padding. Thread-safe."""

    def __init__(self, tokenizer_json: str, tokenization: Tokenization) -> None:
        self.tokenization = tokenization
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.enable_truncation(tokenization.max_length)
        self._tokenizer.enable_padding(
            length=tokenization.max_length if tokenization.padding == "max_length" else None,
            pad_id=tokenization.pad_id,
            pad_token=tokenization.pad_token,
        )

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and attention mask, both int64 (n, longest length in this batch). Raises ConfigError."""
        if self.tokenization.canonicalize:
            texts = [" ".join(text.lower().translate(_NO_PUNCTUATION).split()) for text in texts]
        try:
            encodings = self._tokenizer.encode_batch(list(texts))
        except TypeError as error:
            broken = next((text for text in texts if any("\ud800" <= char <= "\udfff" for char in text)), texts)
            raise ConfigError(f"the text {broken!r:.80} is not valid Unicode: was it read as UTF-8?") from error
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return ids, mask
