"""The words of a text, by which `~` finds it: stored beside the text, so that every Qdrant finds the same.

    list_words("Ein Café, am MEER")      ["ein", "cafe", "am", "meer"]
    list_words("黒い猫")                  ["黒", "黒い", "い", "い猫", "猫"]

The tokenizers of text indexes differ between servers, an in-memory client has another one, and a plain one takes a
whole Chinese sentence for one word. So the words are made here, kept below `words`, and indexed as keywords:

    {"caption": "A cat", "words": {"caption": ["a", "cat"], "metadata": {"notes": [{"w": ["one"]}, {"w": ["two"]}]}}}

A metadata field may hold several texts, and all words that are asked for have to stand in one of them: so each has a
list of its own. Where there are several, SEVERAL is among the words of the first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from clip_qdrant.fields.names import split_path

__all__ = ["RUNS", "SEVERAL", "UNSPACED", "WORDS", "list_words", "read_words", "remove_marks", "words_key"]

WORDS = "words"  # the payload key
SEVERAL = "*"  # no word: words have letters and digits alone
_NO_WORD = ""  # stands where a text has none, so that the field is not empty
_LONGEST = 64  # characters of a word that count; the end of a longer one (a hash, base64) is not looked at
_METADATA = "metadata."

# Scripts that are written without spaces, or (Hangul) with endings that stick to the words: each character and each
# pair counts as a word (Manning et al., Introduction to Information Retrieval, 2.2.1). Thai, Lao, Tibetan, Myanmar,
# Hangul, Khmer, kana, Han and its extensions.
UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u1049\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_SIGNS = "\u0900-\u0963\u0966-\u0dff"  # the vowel signs of Indian scripts are no \w
# A run without spaces, or a word.
RUNS = re.compile(f"([{UNSPACED}]+)|((?:[^\\W_{UNSPACED}]|[{_SIGNS}])+)")
_ASCII_RUNS = re.compile("[a-z0-9]+")
# Accents, and the vowel points of Hebrew and Arabic, which hardly anybody types.
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670]")


def remove_marks(text: str) -> str:
    """The text in the usual forms of its characters (NFKC), without accents and vowel points."""
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))


def list_words(text: str) -> list[str]:
    """The words of a text, each once, in lower case and without accents; [] if it has none."""
    if text.isascii():
        return list(dict.fromkeys(word[:_LONGEST] for word in _ASCII_RUNS.findall(text.lower())))
    folded = unicodedata.normalize("NFC", remove_marks(text).casefold())
    words: dict[str, None] = {}
    for unspaced, word in RUNS.findall(folded):
        if word:
            words[word[:_LONGEST]] = None
        for position, character in enumerate(unspaced):
            if position:
                words[unspaced[position - 1 : position + 1]] = None
            words[character] = None
    return list(words)


def words_key(key: str) -> str:
    """The payload key that the words of the text at the payload key `key` are indexed at."""
    return f"{WORDS}.{key}[].w" if key.startswith(_METADATA) else f"{WORDS}.{key}"


def read_words(payload: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The words of the texts that a payload has at these payload keys, nested as they are there."""
    found: dict[str, Any] = {}
    for key in keys:
        *above, last = split_path(key)
        value: Any = payload
        for part in (*above, last):
            value = value.get(part) if isinstance(value, Mapping) else None
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        if not texts:
            continue
        group = found
        for part in above:
            group = group.setdefault(part, {})
        several = [list_words(text) or [_NO_WORD] for text in texts]
        if not key.startswith(_METADATA):
            group[last] = several[0]
            continue
        if len(several) > 1:
            several[0].append(SEVERAL)
        group[last] = [{"w": words} for words in several]
    return found
