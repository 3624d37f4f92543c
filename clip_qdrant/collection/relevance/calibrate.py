"""The calibration of an embedder by the images of a collection, and where the collection keeps it.

Models that others have trained come without one. What is random there depends on the images too: in a collection of
dogs every image is somewhat like "a dog". So a sample of the collection is compared with its own captions, where it has
captions that the model understands, and with texts about what hardly any collection has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from qdrant_client import models

from clip_qdrant.calibration.curves import Calibration, measure_calibration
from clip_qdrant.calibration.improbable_texts import IMPROBABLE_TEXTS
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.collection.relevance.stored import CALIBRATION_KEY
from clip_qdrant.errors import QueryError

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["calibrate_collection"]

_SAMPLE = 1000
_FEWEST = 30  # images
_FEWEST_CAPTIONS = 100
_LEAST_RECALL = 0.2  # of captions whose own image is among the ten nearest; of fewer the model understands too little


def calibrate_collection(reader: CollectionReader, embedder: Embedder) -> Calibration:
    """Measures the embedder by a sample of the collection, and keeps what it finds in the collection's metadata.

    Takes the time of embedding up to 1,100 short texts. Raises QueryError for a collection of fewer than 30 images.
    """
    images, captions = _draw_sample(reader)
    improbable = embed_query_texts(IMPROBABLE_TEXTS, embedder, unit=False)
    found = _measure_by_captions(embedder, images, captions, improbable)
    found = found or measure_calibration(images, improbable, improbable=improbable)
    if found is None:
        raise QueryError(
            f"collection {reader.name!r} has {len(images)} images, too few to tell what is random: ingest at least "
            f"{_FEWEST}"
        )
    reader.description.ask(
        lambda: reader.client.update_collection(reader.name, metadata={CALIBRATION_KEY: found.to_dict()}),
        what=f"keeping the calibration of collection {reader.name!r}",
    )
    reader.description.open()
    return found


def _draw_sample(reader: CollectionReader) -> tuple[np.ndarray, list[str | None]]:
    """Vectors of images, float32 (n, dim), and their captions. Ids are hashes: the first of them are a fair sample."""
    records: list[models.Record] = []
    offset = None
    while len(records) < _SAMPLE:
        page, offset = reader.scroll(None, offset, ["caption"], True, limit=_SAMPLE - len(records))
        records += page
        if offset is None:
            break
    vectors = [dense_vector(record.vector) for record in records]
    return np.array(vectors, np.float32), [(record.payload or {}).get("caption") for record in records]


def _measure_by_captions(
    embedder: Embedder, images: np.ndarray, captions: Sequence[str | None], improbable: np.ndarray
) -> Calibration | None:
    """By the captions that one image alone has; None where they are few or say nothing to the model."""
    often = Counter(captions)
    own = [at for at, caption in enumerate(captions) if caption and often[caption] == 1]
    if len(own) < _FEWEST_CAPTIONS:
        return None
    texts = embed_query_texts([str(captions[at]) for at in own], embedder, unit=False)
    scores = texts @ images.T
    mine = scores[np.arange(len(own)), own]
    recall = float(((scores > mine[:, None]).sum(axis=1) < 10).mean())
    if recall < _LEAST_RECALL:
        return None
    return measure_calibration(images, texts, owners=own, improbable=improbable)
