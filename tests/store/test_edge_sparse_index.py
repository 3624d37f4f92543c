"""What a sparse vector was before is not found in an embedded store: the engine's own index would find it."""

from __future__ import annotations

from random import Random

import pytest
from qdrant_client import models

SPARSE = {"words": models.SparseVectorParams()}


def vector(*terms: int) -> models.SparseVector:
    return models.SparseVector(indices=list(terms), values=[1.0] * len(terms))


def found(client, term: int) -> set[int]:
    points = client.query_points("photos", vector(term), using="words", limit=100).points
    return {point.id for point in points}


@pytest.fixture
def photos(edge_client):
    edge_client.create_collection("photos", vectors_config={}, sparse_vectors_config=SPARSE)
    return edge_client


@pytest.mark.parametrize(
    "chosen", [[1], models.Filter(must=[models.HasIdCondition(has_id=[1])])], ids=["ids", "filter"]
)
def test_the_terms_of_a_deleted_vector_are_gone_when_the_point_has_another(photos, chosen):
    photos.upsert("photos", [models.PointStruct(id=number, vector={"words": vector(7)}) for number in (1, 2)])

    photos.delete_vectors("photos", ["words"], chosen)
    photos.update_vectors("photos", [models.PointVectors(id=1, vector={"words": vector(8)})])

    assert (found(photos, 7), found(photos, 8)) == ({2}, {1})


def test_a_point_is_found_by_the_terms_it_has_now_whatever_happened_to_it_before(photos):
    random = Random(3)
    there: dict[int, set[int]] = {}
    for _ in range(150):
        number, terms = random.randrange(6), set(random.sample(range(8), random.randint(1, 4)))
        change = random.choice(["upsert", "upsert without", "update", "delete vector", "delete"])
        if change == "upsert" or number not in there:
            photos.upsert("photos", [models.PointStruct(id=number, vector={"words": vector(*terms)})])
            there[number] = terms
        elif change == "upsert without":
            photos.upsert("photos", [models.PointStruct(id=number, vector={})])
            there[number] = set()
        elif change == "update":
            photos.update_vectors("photos", [models.PointVectors(id=number, vector={"words": vector(*terms)})])
            there[number] = terms
        elif change == "delete vector":
            photos.delete_vectors("photos", ["words"], [number])
            there[number] = set()
        else:
            photos.delete("photos", [number])
            del there[number]

        for term in range(8):
            assert found(photos, term) == {one for one, has in there.items() if term in has}
