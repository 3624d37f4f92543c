"""Changes of points that every client makes alike: vectors, batches, uploads, and what is said of missing points."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import PointNotFound, StoreError
from clip_qdrant.store.calls import call
from clip_qdrant.store.edge.client import EdgeClient

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)
ONE, TWO = models.SparseVector(indices=[1], values=[1.0]), models.SparseVector(indices=[2], values=[2.0])


@pytest.fixture
def name(client: QdrantBase, collection_name: str) -> str:
    """Three points with a dense and a sparse vector."""
    client.create_collection(collection_name, {"": DOT, "a": DOT}, {"text": models.SparseVectorParams()})
    points = [
        models.PointStruct(id=i, vector={"": [i, 0.0], "a": [0.0, i], "text": ONE}, payload={"n": i, "deep": {"x": i}})
        for i in (1, 2, 3)
    ]
    client.upsert(collection_name, points, wait=True)
    return collection_name


def vectors(client: QdrantBase, name: str) -> dict[Any, Any]:
    return {one.id: one.vector for one in client.scroll(name, with_vectors=True)[0]}


def payloads(client: QdrantBase, name: str) -> dict[Any, Any]:
    return {one.id: one.payload for one in client.scroll(name)[0]}


def where(**values: Any) -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in values.items()]
    )


def test_vectors_are_replaced_by_name_and_the_others_stay(client: QdrantBase, name: str) -> None:
    new = models.PointVectors(id=1, vector={"a": [7.0, 7.0], "text": TWO})
    client.update_vectors(
        name,
        [new, models.PointVectors(id=2, vector=[8.0, 8.0])],
        wait=True,
    )

    assert vectors(client, name) == {
        1: {"": [1.0, 0.0], "a": [7.0, 7.0], "text": TWO},
        2: {"": [8.0, 8.0], "a": [0.0, 2.0], "text": ONE},
        3: {"": [3.0, 0.0], "a": [0.0, 3.0], "text": ONE},
    }
    assert payloads(client, name)[1] == {"n": 1, "deep": {"x": 1}}


def test_vectors_are_replaced_only_where_a_filter_says_so(client: QdrantBase, name: str) -> None:
    change = [models.PointVectors(id=i, vector={"a": [9.0, 9.0]}) for i in (1, 2)]
    client.update_vectors(name, change, wait=True, update_filter=where(n=2))

    assert [vectors(client, name)[i]["a"] for i in (1, 2, 3)] == [[0.0, 1.0], [9.0, 9.0], [0.0, 3.0]]


def test_vectors_are_deleted_by_ids_and_by_filter(client: QdrantBase, name: str) -> None:
    client.delete_vectors(name, ["a", "text"], [1], wait=True)
    client.delete_vectors(name, [""], models.FilterSelector(filter=where(n=2)), wait=True)

    assert {point: set(found) for point, found in vectors(client, name).items() if isinstance(found, dict)} == {
        2: {"a", "text"},
        3: {"", "a", "text"},
    }
    assert vectors(client, name)[1] == [1.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda client, name, ids: client.update_vectors(
            name, [models.PointVectors(id=one, vector={"a": [5.0, 5.0]}) for one in ids], wait=True
        ),
        lambda client, name, ids: client.delete_vectors(name, ["a"], ids, wait=True),
        lambda client, name, ids: client.set_payload(name, {"n": 9}, ids, wait=True),
        lambda client, name, ids: client.overwrite_payload(name, {"n": 9}, ids, wait=True),
        lambda client, name, ids: client.delete_payload(name, ["n"], ids, wait=True),
        lambda client, name, ids: client.clear_payload(name, ids, wait=True),
    ],
    ids=["update_vectors", "delete_vectors", "set", "overwrite", "delete_payload", "clear"],
)
def test_a_point_that_is_not_there_is_told_and_the_others_are_changed(
    client: QdrantBase, name: str, change: Any
) -> None:
    before = vectors(client, name), payloads(client, name)
    with pytest.raises(PointNotFound, match="77"):
        call(lambda: change(client, name, [1, 77, 3]), what="change")

    after = vectors(client, name), payloads(client, name)
    assert [one for one in (1, 2, 3) if (before[0][one], before[1][one]) != (after[0][one], after[1][one])] == [1, 3]


def test_operations_of_every_kind_are_done_in_their_order(client: QdrantBase, name: str) -> None:
    new = models.PointStruct(id=4, vector={"a": [4.0, 4.0]}, payload={"n": 4})
    batch = models.Batch(ids=[5], vectors={"a": [[5.0, 5.0]]}, payloads=[{"n": 5}])
    changed = models.PointVectors(id=2, vector={"a": [6.0, 6.0]})
    results = client.batch_update_points(
        name,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[new])),
            models.UpsertOperation(upsert=models.PointsBatch(batch=batch)),
            models.DeleteOperation(delete=models.PointIdsList(points=[1])),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"x": 0}, points=[2], key="deep")),
            models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"m": 3}, filter=where(n=3))),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["n"], points=[4])),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[5])),
            models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=[changed])),
            models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(vector=["text"], points=[3])),
        ],
        wait=True,
    )

    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 9
    assert payloads(client, name) == {2: {"n": 2, "deep": {"x": 0}}, 3: {"m": 3}, 4: {}, 5: {}}
    assert vectors(client, name) == {
        2: {"": [2.0, 0.0], "a": [6.0, 6.0], "text": ONE},
        3: {"": [3.0, 0.0], "a": [0.0, 3.0]},
        4: {"a": [4.0, 4.0]},
        5: {"a": [5.0, 5.0]},
    }


def test_of_a_batch_with_a_wrong_operation_none_is_done(client: QdrantBase, name: str) -> None:
    wrong = models.PointStruct(id=4, vector={"a": [1.0, 2.0, 3.0]})
    operations = [
        models.DeleteOperation(delete=models.PointIdsList(points=[1])),
        models.UpsertOperation(upsert=models.PointsList(points=[wrong])),
    ]
    before = payloads(client, name)

    with pytest.raises(StoreError):
        call(lambda: client.batch_update_points(name, operations, wait=True), what="change")
    if isinstance(client, EdgeClient):  # a server does those before it
        assert payloads(client, name) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda client, name: client.update_vectors(name, [models.PointVectors(id=1, vector={"none": [1.0, 2.0]})]),
        lambda client, name: client.update_vectors(name, [models.PointVectors(id=1, vector={"a": [1.0]})]),
        lambda client, name: client.update_vectors(name, []),
        lambda client, name: client.delete_vectors(name, ["none"], [1]),
        lambda client, name: client.delete_vectors(name, [], [1]),
        lambda client, name: client.delete_vectors(name, ["a"], []),
        lambda client, name: client.delete(name, []),
        lambda client, name: client.set_payload(name, {"n": 1}, []),
        lambda client, name: client.upsert(name, []),
    ],
)
def test_a_request_that_changes_nothing_or_names_no_vector_is_refused(
    client: QdrantBase, name: str, change: Any
) -> None:
    before = vectors(client, name)

    with pytest.raises(StoreError):
        call(lambda: change(client, name), what="change")
    assert vectors(client, name) == before


def test_arrays_are_uploaded_with_ids_and_payloads(client: QdrantBase, collection_name: str) -> None:
    client.create_collection(collection_name, DOT)
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    client.upload_collection(collection_name, rows, [{"n": i} for i in range(5)], range(5), batch_size=2, wait=True)

    found = client.scroll(collection_name, with_vectors=True)[0]
    assert [(one.id, one.payload, one.vector) for one in found] == [
        (i, {"n": i}, [2.0 * i, 2.0 * i + 1]) for i in range(5)
    ]


def test_arrays_by_name_are_uploaded_under_random_ids(client: QdrantBase, name: str) -> None:
    rows = np.ones((3, 2), np.float32)
    client.upload_collection(name, {"a": rows, "": rows * 2}, wait=True)
    client.upload_collection(name, [{"text": TWO}], wait=True)

    new = {one: found for one, found in vectors(client, name).items() if isinstance(one, str)}
    assert all(uuid.UUID(one) for one in new)
    assert sorted(map(str, new.values())) == sorted([str({"": [2.0, 2.0], "a": [1.0, 1.0]})] * 3 + [str({"text": TWO})])


def test_points_that_were_read_can_be_uploaded(client: QdrantBase, name: str) -> None:
    records = client.scroll(name, with_vectors=True)[0]
    before = vectors(client, name), payloads(client, name)
    client.delete(name, [1, 2, 3], wait=True)
    client.upload_points(name, records, wait=True)
    client.upload_points(name, [], wait=True)

    assert (vectors(client, name), payloads(client, name)) == before


def test_an_upload_may_only_insert(client: QdrantBase, name: str) -> None:
    points = [models.PointStruct(id=i, vector={}, payload={"n": 0}) for i in (3, 4)]
    client.upload_points(name, points, wait=True, update_mode=models.UpdateMode.INSERT_ONLY)

    assert {one: fields["n"] for one, fields in payloads(client, name).items()} == {1: 1, 2: 2, 3: 3, 4: 0}
