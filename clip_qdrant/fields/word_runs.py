"""Where the words of a text are, in any script: for the words of filters (`fields.words`) and the terms of ranking
(`collection.text.terms`), which differ in what they make of a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["RUNS", "remove_marks", "split_unspaced"]

# Scripts that are written without spaces, or (Hangul) with endings that stick to the words: each character and each
# pair counts as a word (Manning et al., Introduction to Information Retrieval, 2.2.1). Thai, Lao, Tibetan, Myanmar,
# Hangul, Khmer, kana, Han and its extensions.
_UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u1049\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_SIGNS = "\u0900-\u0963\u0966-\u0dff"  # the vowel signs of Indian scripts are no \w
# A run without spaces, or a word.
RUNS = re.compile(f"([{_UNSPACED}]+)|((?:[^\\W_{_UNSPACED}]|[{_SIGNS}])+)")
# Accents, and the vowel points of Hebrew and Arabic, which hardly anybody types.
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670]")


def remove_marks(text: str) -> str:
    """The text in the usual forms of its characters (NFKC), without accents and vowel points."""
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))


def split_unspaced(run: str) -> Iterator[str]:
    """What counts as words in a run without spaces: each character, and each pair of neighbours."""
    for position, character in enumerate(run):
        if position:
            yield run[position - 1 : position + 1]
        yield character
