"""SearchOptions: what a search gives and how it looks, declared and checked once."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from clip_qdrant.collection.options import is_number
from clip_qdrant.collection.relevance.scale import MinRelevance
from clip_qdrant.collection.text.fields import TextFields
from clip_qdrant.collection.text.fusion import TEXT_WEIGHT, Fusion
from clip_qdrant.errors import QueryError, shorten

__all__ = ["MOST_AT_ONCE", "Collapse", "SearchOptions"]

Collapse = Literal["bytes", "shot", "similar"]
MOST_AT_ONCE = 100_000  # hits of one call; 100,000 payloads are 100 MB
_FARTHEST = 2**40  # an offset; what is beyond the last image is empty
_MOST_EF = 2**20
_MOST_DIVERSE = 16_384  # that Qdrant compares with each other
_GROUP_SIZE = 3
_LARGEST = 3.4e38  # of a float32, which scores are


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Options of one search; `ImageCollection.search` takes them one by one and says what each does.

    Raises QueryError, which names the value, for what there cannot be.
    """

    limit: int = 10
    offset: int = 0
    score_threshold: float | None = None
    min_relevance: MinRelevance | None = None
    text: bool | str | None = None
    text_fields: TextFields | None = None
    text_weight: float = TEXT_WEIGHT
    fusion: Fusion = "sum"
    order_by: str | None = None
    candidates: int | None = None
    diversity: float | None = None
    collapse: Collapse | None = None
    group_by: str | None = None
    group_size: int = _GROUP_SIZE
    exact: bool = False
    ef: int | None = None
    rescore: bool | None = None
    oversampling: float | None = None
    payload: bool | Sequence[str] = True
    vectors: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        pages = "; read the rest page by page, with offset"
        self._keep("limit", _whole("limit", self.limit, 1, MOST_AT_ONCE, way_out=pages))
        self._keep("offset", _whole("offset", self.offset, 0, _FARTHEST))
        self._keep("group_size", _whole("group_size", self.group_size, 1, 1000))
        if self.candidates is not None:
            self._keep("candidates", _whole("candidates", self.candidates, 1, MOST_AT_ONCE))
        if self.ef is not None:
            self._keep("ef", _whole("ef", self.ef, 1, _MOST_EF))
        for name, least, most, what in (
            ("score_threshold", -_LARGEST, _LARGEST, "a number that a score can be"),  # a cosine, save by examples
            ("diversity", 0.0, 1.0, "from 0 (the most relevant) to 1 (the most diverse)"),
            ("text_weight", 0.0, 1.0, "from 0 (likeness alone) to 1 (words alone)"),
            ("oversampling", 1.0, 1000.0, "a factor from 1 to 1000"),
        ):
            if (value := getattr(self, name)) is not None:
                self._keep(name, _number(name, value, least, most, what))
        if isinstance(self.min_relevance, str) and self.min_relevance != "auto":
            raise QueryError(f'min_relevance must be "auto" or a number from 0 to 1, not {_show(self.min_relevance)}')
        if self.min_relevance is not None and self.min_relevance != "auto":
            what = '"auto" or from 0 to 1, the share of random pairs that are less alike'
            self._keep("min_relevance", _number("min_relevance", self.min_relevance, 0.0, 1.0, what))
        for name in ("exact", "vectors", "explain"):
            _check_flag(name, getattr(self, name))
        if self.rescore is not None:
            _check_flag("rescore", self.rescore)
        for name in ("order_by", "group_by"):
            if (value := getattr(self, name)) is not None and (not isinstance(value, str) or not value.strip()):
                raise QueryError(f"{name} must be the name of a field, not {_show(value)}")
        if self.collapse is not None and self.collapse not in get_args(Collapse):
            choices = ", ".join(map(repr, get_args(Collapse)))
            raise QueryError(f"collapse must be one of {choices}, not {_show(self.collapse)}")
        self._check_text()
        self._keep("payload", _payload(self.payload))
        self._check_together()

    def _check_text(self) -> None:
        if self.text is not None and not isinstance(self.text, bool | str):
            raise QueryError(f"text must be True, for the words of the query, or the words, not {_show(self.text)}")
        if isinstance(self.text, str) and not self.text.strip():
            raise QueryError(f"the text to look for, {self.text!r}, is empty; give the words, or leave text out")
        if self.fusion not in get_args(Fusion):
            raise QueryError(
                f"fusion must be one of {', '.join(map(repr, get_args(Fusion)))}, not {_show(self.fusion)}"
            )
        for name, unset, what in (
            ("text_fields", None, "where to look for words"),
            ("text_weight", TEXT_WEIGHT, "how much words count"),
            ("fusion", "sum", "how likeness and words come together"),
        ):
            if self.text is None and getattr(self, name) != unset:
                raise QueryError(f"{name} says {what}: give text too, True or the words")
        if self.text and self.diversity is not None:
            raise QueryError("diversity compares vectors alone, and text ranks by words too: give one of them")

    def _check_together(self) -> None:
        looks_further = (self.order_by, self.diversity, self.collapse, self.text)
        if self.candidates is not None and all(option is None for option in looks_further):
            raise QueryError(
                "candidates says how many of the best order_by, diversity, collapse and text look at: give one of "
                "them too, or limit for the hits in all"
            )
        if self.group_size != _GROUP_SIZE and self.group_by is None:
            raise QueryError("group_size is the most hits of a group: give group_by too, or limit for the hits in all")
        chosen_among = self.limit if self.candidates is None else self.candidates
        if self.diversity and chosen_among > _MOST_DIVERSE:
            name = "limit" if self.candidates is None else "candidates"
            raise QueryError(
                f"diversity chooses among {_MOST_DIVERSE} images at most, and {name} is {chosen_among}: give a smaller "
                f"{name}, or leave diversity out"
            )
        if self.exact and self.ef is not None:
            raise QueryError("exact compares all vectors and ef says how far an index looks: give one of them")
        for name in ("diversity", "group_by"):
            if self.order_by is not None and getattr(self, name) is not None:
                raise QueryError(f"order_by and {name} each decide the order: give one of them")
        if self.diversity is not None and self.group_by is not None:
            raise QueryError("diversity and group_by each decide the order: give one of them")

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _whole(name: str, value: Any, least: int, most: int, *, way_out: str = "") -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise QueryError(f"{name} must be a whole number, not {_show(value)}") from None
    if isinstance(value, bool) or number < least:
        raise QueryError(f"{name} must be a whole number of at least {least}, not {_show(value)}")
    if number > most:
        raise QueryError(f"{name} must be at most {most}, not {_show(value)}{way_out}")
    return number


def _number(name: str, value: Any, least: float, most: float, what: str) -> float:
    if not is_number(value) or not math.isfinite(value):
        raise QueryError(f"{name} must be a finite number, not {_show(value)}")
    if not least <= value <= most:
        raise QueryError(f"{name} must be {what}, not {_show(value)}")
    return float(value)


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise QueryError(f"{name} must be True or False, not {_show(value)}")


def _payload(value: Any) -> bool | tuple[str, ...]:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise QueryError(f"payload must be True, False or a list of field names, not {_show(value)}")
    return tuple(value)


def _show(value: object) -> str:
    return shorten(repr(value), 80)
