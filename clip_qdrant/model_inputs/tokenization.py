"""Texts to token ids with the `tokenizers` library alone: the same rows for both runtimes, no transformers import."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from clip_qdrant.errors import CheckpointError, ConfigError, first_line
from clip_qdrant.model_inputs.text_cleaning import CLEANINGS, NO_PUNCTUATION, Cleaning, clean_text

__all__ = ["TextTokenizer", "Tokenization"]

logger = logging.getLogger(__name__)
_MOST_TOKENS = 8192  # of the longest published text encoders
_LATER = ("lower_case", "cleaning", "pad_left")  # fields of Tokenization


@dataclass(frozen=True, slots=True)
class Tokenization:
    """How one encoder wants its texts; part of its fingerprint. Longer texts are truncated to `max_length` tokens,
    the end token kept."""

    max_length: int
    padding: Literal["longest", "max_length"] = "longest"
    pad_id: int = 0
    pad_token: str = "[PAD]"
    canonicalize: bool = False  # lower case without ASCII punctuation, as SigLIP (Zhai et al. 2023) was trained
    lower_case: bool = False  # as SigLIP 2 (Tschannen et al. 2025) was trained, whose tokenizer leaves capitals alone
    cleaning: Cleaning = ""  # what open_clip does to texts, in place of the two above
    pad_left: bool = False

    def __post_init__(self) -> None:
        if type(self.max_length) is not int or not 1 <= self.max_length <= _MOST_TOKENS:
            raise ConfigError(f"max_length is {self.max_length!r}: a whole number from 1 to {_MOST_TOKENS} is possible")
        if self.padding not in ("longest", "max_length"):
            raise ConfigError(f"padding is {self.padding!r}: longest and max_length are possible")
        if type(self.pad_id) is not int or self.pad_id < 0:
            raise ConfigError(f"pad_id is {self.pad_id!r}: it must be a whole number of at least 0")
        if self.cleaning not in CLEANINGS:
            raise ConfigError(f"cleaning is {self.cleaning!r}: {', '.join(CLEANINGS[1:])} are possible")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only. What came later stands there where it is on: it is no part of the fingerprint of others."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name not in _LATER}


class TextTokenizer:
    """A tokenizer.json with one encoder's truncation and padding. Thread-safe.

    With `warns` the log is told of the first text that is cut.
    """

    def __init__(self, tokenizer_json: str, tokenization: Tokenization, *, warns: bool = False) -> None:
        self.tokenization = tokenization
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.enable_truncation(tokenization.max_length)
        self._tokenizer.enable_padding(
            length=tokenization.max_length if tokenization.padding == "max_length" else None,
            pad_id=tokenization.pad_id,
            pad_token=tokenization.pad_token,
            direction="left" if tokenization.pad_left else "right",
        )
        # Texts between these are canonicalised one by one, so that a token written out stays one, as SigLIP has it.
        self._special = [
            token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special
        ]
        self._between = re.compile(f"({'|'.join(map(re.escape, self._special))})") if self._special else None
        self._warns = warns

    def _canonicalize(self, text: str) -> str:
        parts = self._between.split(text) if self._between else [text]
        return "".join(part if part in self._special else _remove_punctuation(part) for part in parts)

    @property
    def largest_id(self) -> int:
        """The largest token id that it may give."""
        known = self._tokenizer.get_vocab(with_added_tokens=True).values()
        return max(self.tokenization.pad_id, *known, 0)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and attention mask, both int64 (n, longest length in this batch). Raises ConfigError."""
        if self.tokenization.cleaning:
            texts = [clean_text(text, self.tokenization.cleaning) for text in texts]
        if self.tokenization.lower_case:
            texts = [text.lower() for text in texts]
        if self.tokenization.canonicalize:
            texts = [self._canonicalize(text) for text in texts]
        try:
            encodings = self._tokenizer.encode_batch(list(texts))
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of Rust, and no Exception: a pattern that takes too long
                raise CheckpointError(f"the tokenizer of the model fails: {first_line(error)}") from None
            if not isinstance(error, TypeError):
                raise
            broken = next((text for text in texts if any("\ud800" <= char <= "\udfff" for char in text)), texts)
            raise ConfigError(f"the text {broken!r:.80} is not valid Unicode: was it read as UTF-8?") from error
        if self._warns and any(encoding.overflowing for encoding in encodings):
            self._warns = False
            longest = self.tokenization.max_length
            logger.warning(
                "a text has more than the %d tokens that the model takes: what is beyond is left out", longest
            )
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return ids, mask


def _remove_punctuation(text: str) -> str:
    return " ".join(text.lower().translate(NO_PUNCTUATION).split())
