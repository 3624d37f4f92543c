"""What open_clip does to a text before its tokenizer sees it, without ftfy.

open_clip has ftfy repair a text, undoes HTML's entities, and cleans up blanks, capitals and punctuation. All of it is
here but the repair of text that was decoded by the wrong character set, for which ftfy has large tables.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Literal, get_args

__all__ = ["CLEANINGS", "NO_PUNCTUATION", "Cleaning", "clean_text"]

Cleaning = Literal["", "whitespace", "lower", "canonicalize"]
CLEANINGS: tuple[Cleaning, ...] = get_args(Cleaning)
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ESCAPES = re.compile("\033\\[[\\d;]*[a-zA-Z]")  # colours of terminals
_DIGRAPHS = "\u0132\u0133\u0149\u01f1\u01f2\u01f3\u01c4\u01c5\u01c6\u01c7\u01c8\u01c9\u01ca\u01cb\u01cc"
_LIGATURES = "\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"


def _make_repairs() -> Mapping[int, str | None]:
    """Characters that ftfy 6.3 replaces one by one, whatever stands around them."""
    repairs: dict[int, str | None] = {ord(char): unicodedata.normalize("NFKC", char) for char in _DIGRAPHS + _LIGATURES}
    repairs |= {code: unicodedata.normalize("NFKC", chr(code)) for code in (0x3000, *range(0xFF01, 0xFFF0))}
    repairs |= dict.fromkeys([0x02BC, *range(0x2018, 0x201C)], "'")
    repairs |= dict.fromkeys(range(0x201C, 0x2020), '"')
    repairs |= dict.fromkeys((0x0D, 0x85, 0x2028, 0x2029), "\n")
    unwanted = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), *range(0xFFF9, 0xFFFD), 0xFEFF)
    repairs |= dict.fromkeys(unwanted, None)
    for code in range(0x80, 0xA0):  # control characters that are letters of Windows
        char = bytes([code]).decode("cp1252", errors="ignore")
        if char and code != 0x85:
            repairs[code] = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}.get(char, char)
    repairs[0x85] = "\u2026"
    repairs[0xFB05] = "\u017ft"
    repairs[0x0149] = "'n"
    return repairs


_REPAIRS = _make_repairs()


def clean_text(text: str, cleaning: Cleaning) -> str:
    """The text as the tokenizer wants it. `cleaning` is named as in open_clip; "" changes nothing."""
    if not cleaning:
        return text
    if "<" not in text:  # a page's source is left alone until the end
        text = html.unescape(text)
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", _ESCAPES.sub("", text).translate(_REPAIRS))
    text = html.unescape(html.unescape(text))
    if cleaning == "canonicalize":
        text = text.replace("_", " ").translate(NO_PUNCTUATION)
    if cleaning != "whitespace":
        text = text.lower()
    return " ".join(text.split())
