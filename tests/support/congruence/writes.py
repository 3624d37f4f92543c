"""Random requests that change points. After each both stores must hold the same."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from congruence.filters import random_filter
from congruence.payloads import random_payload, random_point_id
from congruence.requests import Request, Scene

__all__ = ["WRITES", "random_points"]


def random_points(random: Random, scene: Scene, number: int, *, known: float = 0.0) -> list[models.PointStruct]:
    """Points, a share of which are in the collection already."""
    ids = {
        random.choice(scene.ids) if scene.ids and random.random() < known else random_point_id(random)
        for _ in range(number)
    }
    return [
        models.PointStruct(id=one, vector=scene.layout.values(random), payload=random_payload(random))
        for one in sorted(ids, key=str)
    ]


def _some_ids(random: Random, scene: Scene, most: int = 5) -> list[Any]:
    return random.sample(scene.ids, min(len(scene.ids), random.randint(1, most)))


def _selector(random: Random, scene: Scene) -> Any:
    """Points in any of the forms in which they can be chosen."""
    ids, chosen = _some_ids(random, scene), random_filter(random, scene.ids, scene.names)
    uuids = [UUID(one) if isinstance(one, str) else one for one in ids]
    return random.choice([ids, uuids, models.PointIdsList(points=ids), chosen, models.FilterSelector(filter=chosen)])


def _change(random: Random) -> dict[str, Any]:
    """A payload to merge into others, without nulls: after clear_payload they are kept, in local mode not."""
    whole = {name: value for name, value in (random_payload(random) or {}).items() if value is not None}
    return {name: whole[name] for name in random.sample(list(whole), min(len(whole), random.randint(0, 3)))}


def _upsert(random: Random, scene: Scene) -> Request:
    points = random_points(random, scene, random.randint(1, 4), known=0.5)
    options: dict[str, Any] = {"points": points}
    if random.random() < 0.25:
        options["update_mode"] = random.choice(list(models.UpdateMode))
    if random.random() < 0.25:
        options["update_filter"] = random_filter(random, scene.ids, scene.names)
    return Request.random(random, "upsert", "upsert", "state", **options)


def _batch_form(random: Random, scene: Scene) -> models.Batch:
    points = random_points(random, scene, random.randint(1, 4), known=0.5)
    vectors: Any = [scene.layout.vectors[0].value(random) for _ in points]
    if scene.layout.vectors[0].name:
        vectors = {one.name: [one.value(random) for _ in points] for one in scene.layout.vectors}
    payloads = [one.payload or {} for one in points] if random.random() < 0.8 else None
    return models.Batch(ids=[one.id for one in points], vectors=vectors, payloads=payloads)


def _upsert_batch(random: Random, scene: Scene) -> Request:
    return Request.random(random, "upsert of a Batch", "upsert", "state", points=_batch_form(random, scene))


def _upload_points(random: Random, scene: Scene) -> Request:
    points = random_points(random, scene, random.randint(1, 5), known=0.4)
    options = {"points": points, "batch_size": random.choice([1, 2, 64])}
    return Request.random(random, "upload_points", "upload_points", "state", **options, wait=True)


def _upload_collection(random: Random, scene: Scene) -> Request | None:
    if any(one.kind == "multi" or not one.is_exact for one in scene.layout.vectors):
        return None
    number = random.randint(1, 4)
    ids = [random_point_id(random) for _ in range(number)]
    first = scene.layout.vectors[0]
    rows = [[first.value(random) for _ in range(number)]]
    vectors: Any = random.choice([rows[0], np.array(rows[0], dtype=np.float32)]) if first.kind == "dense" else None
    if first.name or first.kind == "sparse":
        vectors = [{one.name: one.value(random) for one in scene.layout.vectors} for _ in range(number)]
        if all(one.kind == "dense" for one in scene.layout.vectors) and random.random() < 0.5:
            vectors = {name: np.array([row[name] for row in vectors], dtype=np.float32) for name in vectors[0]}
    payload = [random_payload(random) for _ in range(number)] if random.random() < 0.8 else None
    options = {"vectors": vectors, "ids": ids, "payload": payload, "batch_size": random.choice([1, 64]), "wait": True}
    return Request.random(random, "upload_collection", "upload_collection", "state", **options)


def _point_vectors(random: Random, scene: Scene) -> list[models.PointVectors]:
    return [models.PointVectors(id=one, vector=scene.layout.values(random)) for one in _some_ids(random, scene)]


def _update_vectors(random: Random, scene: Scene) -> Request:
    options: dict[str, Any] = {"points": _point_vectors(random, scene)}
    if random.random() < 0.2:
        options["update_filter"] = random_filter(random, scene.ids, scene.names)
    return Request.random(random, "update_vectors", "update_vectors", "state", **options)


def _delete_vectors(random: Random, scene: Scene) -> Request | None:
    if scene.layout.has_idf:
        return None
    names = random.sample(scene.names, random.randint(1, len(scene.names)))
    return Request.random(
        random, "delete_vectors", "delete_vectors", "state", vectors=names, points=_selector(random, scene)
    )


def _delete(random: Random, scene: Scene) -> Request | None:
    if scene.layout.has_idf:
        return None
    chosen = random.choice([_some_ids(random, scene, 2), models.PointIdsList(points=_some_ids(random, scene, 2))])
    if random.random() < 0.4:
        few = models.HasIdCondition(has_id=_some_ids(random, scene, 6))
        chosen = models.Filter(must=[few, random_filter(random, scene.ids, scene.names)])
        chosen = random.choice([chosen, models.FilterSelector(filter=chosen)])
    return Request.random(random, "delete", "delete", "state", points_selector=chosen)


def _set_payload(random: Random, scene: Scene) -> Request:
    options = {"payload": _change(random), "points": _selector(random, scene)}
    return Request.random(random, "set_payload", "set_payload", "state", **options)


def _set_payload_key(random: Random, scene: Scene) -> Request:
    key = random.choice(["exif", "exif.lens", "boxes[0]", "boxes[]", "boxes[].parts[]", "new", "new.deep"])
    options = {"payload": _change(random), "points": _selector(random, scene), "key": key}
    return Request.random(random, "set_payload with a key", "set_payload", "state", **options)


def _overwrite_payload(random: Random, scene: Scene) -> Request:
    options = {"payload": random_payload(random) or {}, "points": _selector(random, scene)}
    return Request.random(random, "overwrite_payload", "overwrite_payload", "state", **options)


def _delete_payload(random: Random, scene: Scene) -> Request:
    keys = random.sample(["album", "n", "exif.iso", "exif", "boxes[].label", "boxes[0].size", "nowhere", "tags[0]"], 2)
    options = {"keys": keys, "points": _selector(random, scene)}
    return Request.random(random, "delete_payload", "delete_payload", "state", **options)


def _clear_payload(random: Random, scene: Scene) -> Request:
    chosen = random.choice([_some_ids(random, scene, 2), models.PointIdsList(points=_some_ids(random, scene, 2))])
    return Request.random(random, "clear_payload", "clear_payload", "state", points_selector=chosen)


def _batch_update(random: Random, scene: Scene) -> Request:
    ids = _some_ids(random, scene)
    chosen = {"points": ids} if random.random() < 0.6 else {"filter": random_filter(random, scene.ids, scene.names)}
    points = random_points(random, scene, 2, known=0.5)
    made: list[Any] = [
        models.UpsertOperation(upsert=models.PointsList(points=points)),
        models.UpsertOperation(upsert=models.PointsBatch(batch=_batch_form(random, scene))),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=_change(random), **chosen)),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=_change(random), key="exif", **chosen)),
        models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload=_change(random), **chosen)),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["n", "exif.iso"], **chosen)),
        models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=ids[:1])),
        models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=_point_vectors(random, scene))),
    ]
    if not scene.layout.has_idf:
        names = models.DeleteVectors(vector=scene.names[:1], **chosen)
        made.append(models.DeleteVectorsOperation(delete_vectors=names))
        made.append(models.DeleteOperation(delete=models.PointIdsList(points=[random_point_id(random), *ids[:1]])))
    some = random.sample(made, random.randint(1, 4))
    return Request.random(random, "batch_update_points", "batch_update_points", "state", update_operations=some)


WRITES = {
    "upsert": _upsert,
    "upsert of a Batch": _upsert_batch,
    "upload_points": _upload_points,
    "upload_collection": _upload_collection,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
    "delete": _delete,
    "set_payload": _set_payload,
    "set_payload with a key": _set_payload_key,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
    "batch_update_points": _batch_update,
}
