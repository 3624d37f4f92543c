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
from clip_qdrant.fields.word_runs import RUNS, remove_marks, split_unspaced

__all__ = ["SEVERAL", "WORDS", "list_words", "read_words", "words_key"]

WORDS = "words"  # the payload key
SEVERAL = "*"  # no word: words have letters and digits alone
_NO_WORD = ""  # stands where a text has none, so that the field is not empty
_LONGEST = 64  # characters of a word that count; the end of a longer one (a hash, base64) is not looked at
_METADATA = "metadata."

_ASCII_RUNS = re.compile("[a-z0-9]+")


def list_words(text: str) -> list[str]:
    """The words of a text, each once, in lower case and without accents; [] if it has none."""
    if text.isascii():
        return list(dict.fromkeys(word[:_LONGEST] for word in _ASCII_RUNS.findall(text.lower())))
    folded = unicodedata.normalize("NFC", remove_marks(text).casefold())
    words: dict[str, None] = {}
    for unspaced, word in RUNS.findall(folded):
        if word:
            words[word[:_LONGEST]] = None
        words.update(dict.fromkeys(split_unspaced(unspaced)))
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
