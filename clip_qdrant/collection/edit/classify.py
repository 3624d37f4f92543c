"""classify: gives each stored image the label whose prompts it is nearest to, by the vectors that are stored.

Zero-shot classification with an ensemble of prompts, as in Radford et al. 2021 (https://arxiv.org/abs/2103.00020,
section 3.1.4). No image is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.edit.metadata import check_names, edit_payloads, is_image
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.collection.query import Query, evaluate_queries
from clip_qdrant.collection.relevance.scale import MinRelevance, RelevanceScale
from clip_qdrant.errors import QueryError
from clip_qdrant.fields.types import METADATA_PREFIX, RESERVED_FIELDS

if TYPE_CHECKING:
    from clip_qdrant.calibration.curves import Calibration
    from clip_qdrant.collection.reader import CollectionReader
    from clip_qdrant.collection.writer import CollectionWriter
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["Classification", "Label", "classify", "embed_labels", "field_to_write"]

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Label:
    """What one image was taken for: the label, None if it is not sure, and the likeness to the nearest: their cosine
    similarity, less that of the image to the bias which the model may take from texts."""

    uri: str
    label: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """How many images got each label, how many are like none, and how many had the field before and were left alone."""

    counts: Mapping[str, int]
    unsure: int = 0
    left_alone: int = 0


def embed_labels(labels: Mapping[str, str | Sequence[str]], embedder: Embedder) -> np.ndarray:
    """A vector for each label, float32 (labels, dim): that of the mean of its prompts, as long as its strength, with
    which labels compare as they do without a bias. Raises QueryError."""
    if not isinstance(labels, Mapping) or len(labels) < 2:
        raise QueryError(f"classify takes at least two labels with their prompts, {{'cat': ['a cat']}}, not {labels!r}")
    queries = []
    for label, prompts in labels.items():
        texts = [prompts] if isinstance(prompts, str) else prompts
        if not isinstance(label, str) or not label or not isinstance(texts, Sequence) or not texts:
            raise QueryError(f"label {label!r} needs a name and at least one prompt, not {prompts!r}")
        total = Query.text(texts[0])
        for text in texts[1:]:
            total = total + Query.text(text)
        queries.append(total)
    made = evaluate_queries(queries, embedder, lambda _names: {})
    return np.stack([one.vector * np.float32(one.strength) for one in made])


def field_to_write(name: str) -> str:
    """The metadata field that `write` names, without its prefix. QueryError for what is none."""
    bare = name.removeprefix(METADATA_PREFIX) if isinstance(name, str) else ""
    if not bare or (bare in RESERVED_FIELDS and bare == name) or bare in ("caption", "taken_at", "location"):
        raise QueryError(f"write names a metadata field to put the label in, such as 'metadata.label', not {name!r}")
    return bare


def classify(
    reader: CollectionReader,
    writer: CollectionWriter,
    labels: Mapping[str, str | Sequence[str]],
    vectors: np.ndarray,
    *,
    selection: models.Filter | None,
    write: str | None,
    again: bool,
    calibration: Calibration | None,
    min_relevance: MinRelevance | None,
    on_image: Callable[[Label], None] | None,
) -> Classification:
    """See ImageCollection.classify. `vectors` (labels, dim) are those of `embed_labels`, `write` a bare field name."""
    writer.look_again()
    if write is not None:
        check_names([write], reader.description.payload_fields)
    names = list(labels)
    least = -1.0
    if min_relevance is not None:
        otherwise = "without min_relevance each image gets the label most like it"
        least = RelevanceScale(calibration, 1.0).find_score(min_relevance, otherwise=otherwise)
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    unsure = left_alone = 0
    offset: Any = None
    while True:
        records, offset = reader.scroll(selection, offset, True, True, limit=_AT_ONCE)
        records = [record for record in records if is_image(record)]
        if write is not None and not again:
            todo = [one for one in records if not _has_field(one, write)]
            left_alone += len(records) - len(todo)
            records = todo
        found = _label(records, vectors, names, least)
        if write is not None:
            pairs = zip(records, found, strict=True)
            # None takes away the label that an image like none of these had before.
            edit_payloads(
                writer,
                [(one.payload or {}, {write: to.label}) for one, to in pairs if to.label or _has_field(one, write)],
            )
        for label in found:
            if label.label is None:
                unsure += 1
            else:
                counts[label.label] += 1
            if on_image is not None:
                on_image(label)
        if offset is None:
            return Classification(dict(counts), unsure, left_alone)


def _has_field(record: models.Record, name: str) -> bool:
    return name in ((record.payload or {}).get("metadata") or {})


def _label(records: Sequence[models.Record], vectors: np.ndarray, names: Sequence[str], least: float) -> list[Label]:
    if not records:
        return []
    rows = np.stack([_unit(dense_vector(record.vector), vectors.shape[1]) for record in records])  # (n, dim)
    scores = rows @ vectors.T  # (n, labels)
    best = scores.argmax(axis=1)
    return [
        Label((record.payload or {})["uri"], names[at] if score >= least else None, float(score))
        for record, at, score in zip(records, best, scores.max(axis=1), strict=True)
    ]


def _unit(vector: np.ndarray | None, dim: int) -> np.ndarray:
    """A stored vector as it was before the store rounded it; of a point without one, none is near."""
    return np.zeros(dim, np.float32) if vector is None else vector / (float(np.linalg.norm(vector)) or 1.0)
