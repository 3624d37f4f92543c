"""The sparse vector of an image's words, and that of a query: BM25 by dot product, the same on every Qdrant.

A dimension is a hash of a field and a term, so one vector serves all fields, and a query chooses fields by the
dimensions it names. An image brings the saturated frequency of each term (Robertson and Zaragoza, The Probabilistic
Relevance Framework: BM25 and Beyond, 2009), a query the weight of each field, and the store multiplies by the inverse
document frequency (`Modifier.IDF`), which it keeps for each dimension, and so for each field. docs/decisions/0018.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.text.terms import LONGEST_TEXT, list_query_terms, list_terms
from clip_qdrant.fields.names import join_path
from clip_qdrant.fields.types import METADATA_PREFIX, FieldType
from clip_qdrant.image_names import split_name

__all__ = ["METADATA", "TEXT_VECTOR", "has_words", "make_document", "make_query", "sparse_params"]

TEXT_VECTOR = "text"
METADATA = "metadata"  # the words of all metadata fields together, beside those of each

_K1 = 1.2  # how soon a term that occurs again counts no more
_B = 0.75  # how much a long text counts less
# Terms of a usual text of this kind: fixed, so that the vector of an image does not depend on the others.
_USUAL_LENGTH: Mapping[str, float] = {"caption": 12.0, "uri": 8.0, METADATA: 8.0}
_USUAL_FIELD = 4.0  # of one field of the metadata
_MOST_TERMS = 512  # of an image
_MOST_OF_A_FIELD = 256
_MOST_OF_A_QUERY = 64
_LONGEST_SUFFIX = 5  # .jpeg2000 is a name


def sparse_params() -> dict[str, models.SparseVectorParams]:
    """What a collection is created with so that it holds the words of its images."""
    return {TEXT_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)}


def has_words(key: str, field_type: FieldType) -> bool:
    """Whether the words of a payload field can be searched: caption, uri, keywords and texts of the metadata."""
    return key in _USUAL_LENGTH or (key.startswith(METADATA_PREFIX) and field_type in ("keyword", "text"))


def make_document(payload: Mapping[str, Any], fields: Mapping[str, FieldType]) -> models.SparseVector | None:
    """The words of a payload whose fields have these types, by full key; None where there are none.

    However long its texts are, it has at most 512 numbers, and 256 of one field.
    """
    weights: dict[int, float] = {}
    for key, counts in _count_fields(payload, fields).items():
        norm = _K1 * (1 - _B + _B * sum(counts.values()) / _USUAL_LENGTH.get(key, _USUAL_FIELD))
        once = (_K1 + 1) / (1 + norm)
        for term, count in counts.items():
            weights[_dimension(key, term)] = once if count == 1 else count * (_K1 + 1) / (count + norm)
    if not weights:
        return None
    return models.SparseVector(indices=list(weights)[:_MOST_TERMS], values=list(weights.values())[:_MOST_TERMS])


def make_query(text: str, fields: Mapping[str, float]) -> models.SparseVector | None:
    """What to look for in the fields, by full payload key with their weights; None if the text has no word."""
    terms = list_query_terms(text)[:_MOST_OF_A_QUERY]
    weights = {_dimension(key, term): weight for key, weight in fields.items() for term in terms}
    return models.SparseVector(indices=list(weights), values=list(weights.values())) if weights else None


def _count_fields(payload: Mapping[str, Any], fields: Mapping[str, FieldType]) -> dict[str, Counter[str]]:
    """How often each field has each term, by full payload key; what the limit leaves out comes last."""
    counts: dict[str, Counter[str]] = {"caption": Counter(), "uri": Counter(), METADATA: Counter()}
    if caption := payload.get("caption"):
        _count_terms([caption], counts["caption"])
    if uri := payload.get("uri"):
        _count_terms(_list_names(uri), counts["uri"])
    for key, texts in _list_metadata(payload.get("metadata") or {}, fields, ()):
        if sum(map(len, counts.values())) >= _MOST_TERMS:
            break
        _count_terms(texts, counts.setdefault(key, Counter()))
        if len(counts[METADATA]) < _MOST_OF_A_FIELD:
            counts[METADATA].update(counts[key])
    return counts


def _count_terms(texts: Iterable[str], counts: Counter[str]) -> None:
    room = LONGEST_TEXT
    for text in texts:
        if room <= 0:
            break
        terms = list_terms(text[:room])
        if len(counts) + len(terms) <= _MOST_OF_A_FIELD:
            counts.update(terms)
        else:
            for term in terms:
                if term in counts or len(counts) < _MOST_OF_A_FIELD:
                    counts[term] += 1
        room -= len(text) + 1


def _list_metadata(
    metadata: Mapping[str, Any], fields: Mapping[str, FieldType], above: tuple[str, ...]
) -> Iterator[tuple[str, Iterable[str]]]:
    for name, value in metadata.items():
        path = (*above, name)
        key = METADATA_PREFIX + join_path(path)
        field_type = fields.get(key)
        if field_type is None:
            if isinstance(value, Mapping):
                yield from _list_metadata(value, fields, path)
        elif field_type in ("keyword", "text"):
            yield key, [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _list_names(uri: str) -> list[str]:
    """The file's name without its suffix, and its folders; nothing of a uri that is a hash or an id."""
    if uri.startswith("urn:"):
        return []
    folder, name = split_name(uri)
    stem, _, suffix = name.rpartition(".")
    return [stem if stem and len(suffix) <= _LONGEST_SUFFIX else name, folder.rpartition("://")[2]]


@lru_cache(maxsize=1 << 16)
def _dimension(key: str, term: str) -> int:
    """32 bits that stand for a term in a field, the same in every process."""
    digest = hashlib.blake2b(f"{key}\0{term}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
