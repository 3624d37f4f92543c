"""Groups and distances between points, on every client as in local mode."""

from __future__ import annotations

import random
from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant.errors import CollectionNotFound, StoreError
from clip_qdrant.store.calls import call

NUMBER = 45
_RANDOM = random.Random(11)
VECTORS = [[_RANDOM.gauss(0, 1) for _ in range(3)] for _ in range(NUMBER)]
QUERY = [0.4, 0.1, -0.2]
# All kinds of values: one, several, mixed, none, and such as make no group.
ALBUMS: list[Any] = ["sea", "city", ["sea", "wood"], 7, [7, "city"], [], None, True, ["sea", 1.5], ["new", "new"]]


@pytest.fixture
def filled(client: Any, collection_name: str) -> str:
    return fill(client, collection_name)


def fill(client: Any, collection_name: str) -> str:
    params = {"": models.VectorParams(size=3, distance=models.Distance.COSINE)}
    client.create_collection(collection_name, vectors_config=params)
    points = []
    for i, vector in enumerate(VECTORS):
        payload = {"year": 2000 + i % 4, "more": {"album": ALBUMS[i % len(ALBUMS)]}}
        points.append(models.PointStruct(id=i, vector=vector, payload=payload))
    client.upsert(collection_name, points, wait=True)
    return collection_name


def nearest_first() -> list[int]:
    def likeness(i: int) -> float:
        norm = sum(value * value for value in VECTORS[i]) ** 0.5
        return sum(a * b for a, b in zip(VECTORS[i], QUERY, strict=True)) / norm

    return sorted(range(NUMBER), key=lambda i: -likeness(i))


def group(order: list[int], field: str, limit: int, size: int) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = {}
    for i in order:
        value = 2000 + i % 4 if field == "year" else ALBUMS[i % len(ALBUMS)]
        values = value if isinstance(value, list) else [] if value is None else [value]
        if all(type(one) in (int, str) for one in values):
            for one in dict.fromkeys(values):
                groups.setdefault(one, []).append(i)
    return [(value, hits[:size]) for value, hits in list(groups.items())[:limit]]


def of(answer: models.GroupsResult) -> list[tuple[Any, list[Any]]]:
    return [(one.id, [hit.id for hit in one.hits]) for one in answer.groups]


@pytest.mark.parametrize(("limit", "size"), [(1, 1), (2, 3), (10, 2), (3, 50)])
@pytest.mark.parametrize("field", ["year", "more.album"])
def test_groups_are_in_the_order_of_their_best_points(
    client: Any, filled: str, field: str, limit: int, size: int
) -> None:
    found = client.query_points_groups(filled, group_by=field, query=QUERY, limit=limit, group_size=size)

    assert of(found) == group(nearest_first(), field, limit, size)


def test_groups_by_an_indexed_field_with_a_filter(client: Any, filled: str) -> None:
    client.create_payload_index(filled, "more.album", models.PayloadSchemaType.KEYWORD, wait=True)
    late = models.Filter(must=[models.FieldCondition(key="year", range=models.Range(gte=2002))])

    found = client.query_points_groups(filled, group_by="more.album", query=QUERY, query_filter=late, group_size=4)

    assert of(found) == group([i for i in nearest_first() if i % 4 >= 2], "more.album", 10, 4)


@pytest.mark.parametrize("index", ["keyword", "integer", None])
def test_groups_of_many_points_are_whole_whatever_the_index(
    client: Any, collection_name: str, index: str | None
) -> None:
    # The first group fills the first pages; others lie behind it, with values that the index is not for.
    albums: list[Any] = ["sea"] * 60 + [7] * 20 + [["sea", "wood"], [7, 8], [7, "new"], "city", 9] * 2
    params = models.VectorParams(size=1, distance=models.Distance.DOT)
    client.create_collection(collection_name, vectors_config=params)
    points = [models.PointStruct(id=i, vector=[1000.0 - i], payload={"album": album}) for i, album in enumerate(albums)]
    client.upsert(collection_name, points, wait=True)
    if index is not None:
        client.create_payload_index(collection_name, "album", models.PayloadSchemaType(index), wait=True)
    wanted: dict[Any, list[int]] = {}
    for i, album in enumerate(albums):
        for value in album if isinstance(album, list) else [album]:
            wanted.setdefault(value, []).append(i)
    early = models.Filter(should=[models.HasIdCondition(has_id=list(range(200)))])

    for limit in (2, 3, 10):
        found = client.query_points_groups(
            collection_name, "album", [1.0], query_filter=early, limit=limit, group_size=2
        )
        assert of(found) == [(value, hits[:2]) for value, hits in list(wanted.items())[:limit]]


def test_groups_without_a_query_are_in_the_order_of_ids(client: Any, filled: str) -> None:
    assert of(client.query_points_groups(filled, group_by="year")) == group(list(range(NUMBER)), "year", 10, 3)
    assert of(client.query_points_groups(filled, group_by="no_such")) == []


def test_groups_of_fused_prefetches(client: Any, filled: str) -> None:
    prefetch = [models.Prefetch(query=QUERY, limit=NUMBER)]
    fusion = models.FusionQuery(fusion=models.Fusion.RRF)

    found = client.query_points_groups(filled, group_by="year", prefetch=prefetch, query=fusion, limit=3, group_size=2)

    assert of(found) == group(nearest_first(), "year", 3, 2)


def test_groups_of_rescored_prefetches_are_filled_past_what_these_give_of_all_points(client: Any, filled: str) -> None:
    prefetch = models.Prefetch(query=QUERY, limit=4)

    found = client.query_points_groups(filled, group_by="year", prefetch=prefetch, query=QUERY, limit=3, group_size=4)

    assert of(found) == group(nearest_first(), "year", 3, 4)


@pytest.mark.parametrize("limit", [3, 4, 10])
def test_rescored_prefetches_that_give_too_few_groups_are_asked_for_more(client: Any, filled: str, limit: int) -> None:
    prefetch = models.Prefetch(query=QUERY, limit=1)

    found = client.query_points_groups(filled, "year", QUERY, prefetch=prefetch, limit=limit, group_size=1)

    assert of(found) == group(nearest_first(), "year", limit, 1)


@pytest.mark.parametrize("limit", [4, 10])
def test_rescored_prefetches_are_asked_past_points_that_are_in_no_group(
    edge_client: Any, collection_name: str, limit: int
) -> None:
    name = fill(edge_client, collection_name)
    prefetch = models.Prefetch(query=QUERY, limit=1)

    found = edge_client.query_points_groups(name, "more.album", QUERY, prefetch=prefetch, limit=limit, group_size=1)

    assert of(found) == group(nearest_first(), "more.album", limit, 1)


@pytest.mark.parametrize("query", [[1.0], models.FusionQuery(fusion=models.Fusion.RRF)])
@pytest.mark.parametrize("index", ["keyword", "integer", None])
def test_prefetches_choose_no_points_without_a_value_whatever_the_index(
    client: Any, collection_name: str, index: str | None, query: Any
) -> None:
    albums: list[Any] = [None] * 1000 + [[]] * 1000 + ["sea", 7, ["wood"]]  # more than are asked for in all rounds
    params = models.VectorParams(size=1, distance=models.Distance.DOT)
    client.create_collection(collection_name, vectors_config=params)
    points = [models.PointStruct(id=i, vector=[3000.0 - i], payload={"album": album}) for i, album in enumerate(albums)]
    client.upsert(collection_name, points, wait=True)
    if index is not None:
        client.create_payload_index(collection_name, "album", models.PayloadSchemaType(index), wait=True)
    prefetch = models.Prefetch(query=[1.0], limit=3)

    found = client.query_points_groups(collection_name, "album", query, prefetch=prefetch, limit=3, group_size=1)

    assert of(found) == [("sea", [2000]), (7, [2001]), ("wood", [2002])]


def test_prefetches_that_choose_among_few_end_though_points_are_in_no_group(
    edge_client: Any, collection_name: str
) -> None:
    params = models.VectorParams(size=1, distance=models.Distance.DOT)
    edge_client.create_collection(collection_name, vectors_config=params)
    points = [models.PointStruct(id=i, vector=[100.0 - i], payload={"album": 1.5}) for i in range(60)]
    edge_client.upsert(collection_name, points, wait=True)
    few = models.NearestQuery(nearest=[1.0], mmr=models.Mmr(diversity=0.5, candidates_limit=1))

    found = edge_client.query_points_groups(collection_name, "album", [1.0], prefetch=models.Prefetch(query=few))

    assert found.groups == []


def test_groups_of_rescored_prefetches_are_in_the_order_of_the_query_whenever_they_were_found(
    client: Any, filled: str
) -> None:
    prefetch = models.Prefetch(query=[-value for value in QUERY], limit=2)

    groups = client.query_points_groups(filled, "year", QUERY, prefetch=prefetch, limit=4, group_size=2).groups

    assert {one.id for one in groups} == {2000, 2001, 2002, 2003}
    assert all(len(one.hits) == 2 for one in groups)
    best = [one.hits[0].score for one in groups]
    assert best == sorted(best, reverse=True)


def test_hits_of_groups_have_what_is_asked_for(client: Any, filled: str) -> None:
    found = client.query_points_groups(
        filled, "year", QUERY, limit=2, with_payload=["year"], with_vectors=True, score_threshold=0.2
    )

    hits = [hit for one in found.groups for hit in one.hits]
    assert all(hit.payload == {"year": 2000 + hit.id % 4} and len(hit.vector) == 3 and hit.score > 0.2 for hit in hits)
    assert client.query_points_groups(filled, "year", QUERY, with_payload=False).groups[0].hits[0].payload is None


@pytest.mark.parametrize("kind", ["name", "model"])
def test_groups_look_up_the_point_of_their_value(client: Any, filled: str, collection_name: str, kind: str) -> None:
    years = f"{collection_name}_years"
    client.create_collection(years, vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    points = [models.PointStruct(id=year, vector=[1.0], payload={"name": f"year {year}"}) for year in (2000, 2001)]
    client.upsert(years, points, wait=True)
    lookup = years if kind == "name" else models.WithLookup(collection=years, with_payload=["name"], with_vectors=True)

    found = client.query_points_groups(filled, group_by="year", query=QUERY, with_lookup=lookup).groups

    for one in found:
        assert (one.lookup is not None) == (one.id in (2000, 2001))
        if one.lookup is not None:
            assert one.lookup.payload == {"name": f"year {one.id}"}
            assert (one.lookup.vector is not None) == (kind == "model")


def test_a_lookup_in_no_collection_names_it(client: Any, filled: str) -> None:
    with pytest.raises(CollectionNotFound, match="no_such"):
        call(lambda: client.query_points_groups(filled, "year", QUERY, with_lookup="no_such"), what="group")


def test_the_matrix_has_the_nearest_of_each_point(client: Any, filled: str) -> None:
    pairs = client.search_matrix_pairs(filled, sample=NUMBER, limit=3).pairs
    cells = client.search_matrix_offsets(filled, sample=NUMBER, limit=3)

    assert cells.ids == list(range(NUMBER))
    assert len(pairs) == 3 * NUMBER
    told = [
        (cells.ids[row], cells.ids[column]) for row, column in zip(cells.offsets_row, cells.offsets_col, strict=True)
    ]
    assert [(pair.a, pair.b) for pair in pairs] == told
    assert [pair.score for pair in pairs] == pytest.approx(cells.scores)
    for i in range(NUMBER):
        nearest = [point.id for point in client.query_points(filled, query=i, limit=3).points]
        assert [b for a, b in told if a == i] == nearest


def test_the_matrix_of_a_sample_stays_within_it(client: Any, filled: str) -> None:
    early = models.Filter(must=[models.FieldCondition(key="year", match=models.MatchValue(value=2000))])

    cells = client.search_matrix_offsets(filled, query_filter=early, sample=6, limit=9)

    assert len(cells.ids) == 6 and all(one % 4 == 0 for one in cells.ids)
    assert len(cells.scores) == 6 * 5
    nobody = models.Filter(must=[models.HasIdCondition(has_id=[1])])
    assert client.search_matrix_pairs(filled, query_filter=nobody).pairs == []
    assert client.search_matrix_offsets(filled, query_filter=nobody).ids == []


@pytest.mark.parametrize("wrong", [{"sample": 1}, {"limit": 0}, {"using": "no_such"}])
def test_a_matrix_of_nothing_is_refused(edge_client: Any, collection_name: str, wrong: dict[str, Any]) -> None:
    params = models.VectorParams(size=3, distance=models.Distance.COSINE)
    edge_client.create_collection(collection_name, vectors_config=params)

    with pytest.raises(StoreError):
        edge_client.search_matrix_pairs(collection_name, **wrong)


def test_a_group_is_full_though_points_with_its_value_are_in_none(client, collection_name):
    client.create_collection(collection_name, models.VectorParams(size=1, distance=models.Distance.DOT))
    tags = [["a"], ["a", {"b": 1}], ["a", 1.5], ["a"], ["a"]]
    points = [models.PointStruct(id=i, vector=[9.0 - i], payload={"tags": one}) for i, one in enumerate(tags)]
    client.upsert(collection_name, points, wait=True)

    groups = client.query_points_groups(collection_name, "tags", [1.0], limit=1, group_size=2).groups

    assert [(group.id, [hit.id for hit in group.hits]) for group in groups] == [("a", [0, 3])]
