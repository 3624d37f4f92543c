"""From a text to the terms by which it is found: words of any language, and the pieces of names that programs make.

    list_terms("Two dogs at the Café")      ["two", "dog", "at", "the", "cafe"]
    list_terms("DSC_0042-sunsetBeach")      ["dsc", "0042", "sunsetbeach", "sunset", "beach"]
    list_terms("黒い猫")                     ["黒", "黒い", "い", "い猫", "猫"]

Texts and queries go the same way, so what matters is that both come to the same terms, not that a term is a word. The
words of filters (`fields.words`) are exact; here plurals and pieces of words find each other too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clip_qdrant.fields.word_runs import RUNS, remove_marks, split_unspaced

__all__ = ["LONGEST_TEXT", "list_query_terms", "list_terms"]

LONGEST_TEXT = 10_000  # characters; of a longer text the rest is not looked at
_LONGEST_TERM = 40  # characters; what is longer is a hash or base64, and nobody types it

_ASCII_WORDS = re.compile("[a-zA-Z0-9]+")
_PIECES = re.compile(r"[0-9]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

# English words that are hardly ever looked for themselves.
_COMMON = (
    "a an and are as at be by for from has have he her his in into is it its of off on onto or out over she that the "
    "their them they this through to under up was were while who with"
)
_FUNCTION_WORDS = frozenset(_COMMON.split())


def list_terms(text: str) -> list[str]:
    """The terms of a text, in order, as often as they occur."""
    text = text[:LONGEST_TEXT]
    if not text.isascii():
        return list(_find_terms(remove_marks(text)))
    terms: list[str] = []
    for word in _ASCII_WORDS.findall(text):
        if len(word) <= _LONGEST_TERM:
            terms += _split(word)
    return terms


def list_query_terms(text: str) -> list[str]:
    """The terms to look for, each once: without words that say nothing alone, unless there are no others.

    Few photos have captions, so `the` in the name of a folder would be a rare word there, and decide.
    """
    terms = list(dict.fromkeys(list_terms(text)))
    return [term for term in terms if term not in _FUNCTION_WORDS] or terms


def _find_terms(text: str) -> Iterator[str]:
    """The same for a text of any script whose accents are gone."""
    for unspaced, word in RUNS.findall(text):
        if unspaced:
            yield from split_unspaced(unspaced)
        elif len(word) <= _LONGEST_TERM:
            yield from _split(word) if word.isascii() else [word.casefold()]


def _split(word: str) -> list[str]:
    """A word of ASCII, and its pieces where it is several: "sunsetBeach", "IMG2041"."""
    if word.islower() and word.isalpha():
        return [word if word[-1] != "s" else _singular(word)]
    pieces = _PIECES.findall(word)
    whole = _singular(word.lower())
    return [whole] if len(pieces) < 2 else [whole, *(_singular(piece.lower()) for piece in pieces)]


def _singular(word: str) -> str:
    """An English plural in the singular: the S stemmer (D. Harman, How effective is suffixing?, JASIS 42, 1991),
    with "es" taken off where it is a syllable of its own.
    """
    if len(word) <= 3 or word[-1] != "s":
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word if word[-2] in "us" else word[:-1]
