"""A tenant's client reaches the points of its tenant alone, whatever it is asked, and marks what it writes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, solid_image
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import Forbidden, PointNotFound, QueryError
from clip_qdrant.service.keys.key import Tenant
from clip_qdrant.service.keys.tenants import TenantClient
from clip_qdrant.store.edge.client import EdgeClient

MINE, THEIRS = Tenant("customer", "acme"), Tenant("customer", "other")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[QdrantBase]:
    with EdgeClient(tmp_path) as client:
        yield client


def narrowed(client: QdrantBase, tenant: Tenant) -> ImageCollection:
    return ImageCollection(
        "photos", FakeEmbedder(), TenantClient(client, tenant), fields={tenant.field: "keyword", "year": "integer"}
    )


@pytest.fixture
def mine(client: QdrantBase) -> ImageCollection:
    images = narrowed(client, MINE)
    images.add(
        [solid_image("red"), solid_image("blue")],
        uris=["urn:x:red", "urn:x:blue"],
        captions=["a red one", None],
        metadata=[{"year": 2020}, {"year": 2021, "customer": "other"}],
    )
    return images


@pytest.fixture
def theirs(client: QdrantBase, mine: ImageCollection) -> ImageCollection:
    images = narrowed(client, THEIRS)
    images.add(
        [solid_image("red"), solid_image("green")],
        uris=["urn:y:red", "urn:y:green"],
        metadata=[{"year": 2020}, {"year": 1999}],
    )
    return images


def uris(hits: list[object]) -> set[str]:
    return {hit.uri for hit in hits}  # type: ignore[attr-defined]


def test_what_is_written_is_stamped_whatever_the_caller_says(mine: ImageCollection) -> None:
    assert {hit.metadata["customer"] for hit in mine.search(limit=9)} == {"acme"}


@pytest.mark.parametrize(
    "where",
    [
        None,
        "year > 0",
        "customer = 'other'",
        "customer = 'acme' or customer = 'other'",
        "not customer = 'acme'",
        {"customer": "other"},
        models.Filter(should=[models.FieldCondition(key="metadata.customer", match=models.MatchValue(value="other"))]),
        models.Filter(must_not=[models.FieldCondition(key="uri", match=models.MatchValue(value="urn:x:red"))]),
    ],
)
def test_no_filter_reaches_beyond(mine: ImageCollection, theirs: ImageCollection, where: object) -> None:
    found = mine.search("red", where=where, limit=9)  # type: ignore[arg-type]

    assert uris(found) <= {"urn:x:red", "urn:x:blue"}
    assert uris(mine.search(where=where, limit=9)) <= {"urn:x:red", "urn:x:blue"}  # type: ignore[arg-type]
    assert mine.count(where) <= 2  # type: ignore[arg-type]


def test_no_kind_of_search_reaches_beyond(mine: ImageCollection, theirs: ImageCollection) -> None:
    wide = SearchOptions(limit=9)
    own = {"urn:x:red", "urn:x:blue"}

    assert uris(mine.search("green", limit=9)) == own
    assert uris(mine.search("red", text=True, limit=9)) <= own
    assert uris(mine.search("red", text=True, fusion="rrf", limit=9)) <= own
    assert uris(mine.search(text="red", limit=9)) <= own
    assert uris(mine.search("red", group_by="year", limit=9)) <= own
    assert uris(mine.search("red", diversity=0.5, limit=9)) <= own
    assert uris(mine.search("red", collapse="bytes", limit=9)) <= own
    assert uris(mine.search(order_by="year", limit=9)) <= own
    assert uris(mine.search_batch(["green", "red"], options=wide)[0]) == own
    assert uris(mine.recommend(["red"], strategy="best", options=wide)) <= own
    assert uris(mine.discover("green", [("red", "blue")], options=wide)) <= own


def test_a_point_of_others_is_not_there(mine: ImageCollection, theirs: ImageCollection) -> None:
    assert mine.get("urn:y:green") is None
    with pytest.raises(QueryError):
        mine.search(Query.id("urn:y:green"))
    with pytest.raises((QueryError, PointNotFound)):
        mine.update_metadata({"year": 1}, uris=["urn:y:green"])
    assert mine.delete(uris=["urn:y:green"]) == 0
    assert theirs.get("urn:y:green") is not None


def test_counts_are_of_own_images(mine: ImageCollection, theirs: ImageCollection) -> None:
    assert len(mine) == 2
    assert {facet.value: facet.count for facet in mine.facet("year")} == {2020: 1, 2021: 1}
    assert {facet.value for facet in mine.facet("customer")} == {"acme"}
    assert {facet.value for facet in mine.facets({"customer": ["other"], "year": []})["year"]} == set()
    assert sum(each.count for each in mine.histogram("year", bins=2)) == 2


def test_changes_stay_with_the_tenant(mine: ImageCollection, theirs: ImageCollection) -> None:
    assert mine.update_metadata({"year": 2022, "customer": "other"}, where="") == 2
    assert {hit.metadata["customer"] for hit in mine.search(limit=9)} == {"acme"}
    assert all("customer" not in hit.payload.get("edits", {}) for hit in mine.search(limit=9))
    assert {hit.metadata["year"] for hit in theirs.search(limit=9)} == {2020, 1999}

    mine.update_metadata({"customer": None}, where="")
    assert len(mine) == 2


def test_labels_go_to_own_images_alone(mine: ImageCollection, theirs: ImageCollection) -> None:
    mine.classify({"r": "red", "b": "blue"}, write="label")

    assert {hit.metadata["label"] for hit in mine.search(limit=9)} == {"r", "b"}
    assert all("label" not in hit.metadata for hit in theirs.search(limit=9))


def test_a_uri_of_others_is_not_overwritten(mine: ImageCollection, theirs: ImageCollection) -> None:
    with pytest.raises(Forbidden, match="give it another uri"):
        mine.add([solid_image("black")], uris=["urn:y:green"])

    kept = theirs.get("urn:y:green")
    assert kept is not None
    assert kept.metadata["customer"] == "other"


def test_deleting_by_a_condition_leaves_others_alone(client: QdrantBase, mine: ImageCollection) -> None:
    third = narrowed(client, Tenant("customer", "third"))
    third.add([solid_image("white")], uris=["urn:z:white"])

    assert third.delete(where="year > 0 or not year > 0") == 1
    assert len(mine) == 2


def test_a_tenant_drops_no_collection(mine: ImageCollection) -> None:
    with pytest.raises(NotImplementedError):
        mine.client.delete_collection("photos")
    assert mine.exists()


def test_what_is_not_known_to_be_narrow_is_refused(mine: ImageCollection) -> None:
    refused = {
        name
        for name, _ in inspect.getmembers(QdrantBase, inspect.isfunction)
        if not name.startswith("_") and name not in vars(TenantClient)
    }

    assert {"search_matrix_pairs", "set_payload", "delete_payload", "update_vectors", "recover_snapshot"} <= refused
    for name in refused - {"close", "migrate"}:
        with pytest.raises((NotImplementedError, TypeError)):
            getattr(mine.client, name)()
    with pytest.raises(TypeError, match="by a filter"):
        mine.client.delete("photos", points_selector=models.PointIdsList(points=[1]))
    with pytest.raises(TypeError, match="nothing that a tenant's client can narrow"):
        mine.client.batch_update_points(
            "photos", update_operations=[models.DeleteOperation(delete=models.PointIdsList(points=[1]))]
        )


def test_what_is_fetched_first_is_narrow_too() -> None:
    """Engines hand the outer filter down; a client need not rely on it."""
    asked: list[Any] = []

    class Asked(QdrantBase):
        def query_points(self, collection_name: str, **options: Any) -> Any:
            asked.append(options["prefetch"])

        def query_batch_points(self, collection_name: str, requests: Any, **options: Any) -> Any:
            asked.append(requests[0].prefetch)

    client = TenantClient(Asked(), MINE)
    outer = models.Prefetch(query=[1.0], prefetch=[models.Prefetch(query=[0.5], filter=models.Filter(must=[]))])
    client.query_points("photos", prefetch=outer)
    client.query_batch_points("photos", requests=[models.QueryRequest(query=[1.0], prefetch=[outer])])

    own = models.FieldCondition(key="metadata.customer", match=models.MatchValue(value="acme"))
    for found in (asked[0], asked[1][0]):
        assert found.filter == models.Filter(must=[own])
        assert found.prefetch[0].filter == models.Filter(must=[own, models.Filter(must=[])])
