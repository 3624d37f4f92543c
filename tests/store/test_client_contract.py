"""What every client must do alike: EdgeClient, alone and shared, QdrantClient(":memory:") and a server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import CollectionExists, CollectionNotFound, StoreError
from clip_qdrant.store.calls import call

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
UUIDS = [str(uuid.UUID(int=i + 1)) for i in range(9)]


def field(key: str, **condition: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, **condition)])


def equals(key: str, value: Any) -> models.Filter:
    return field(key, match=models.MatchValue(value=value))


@pytest.fixture(params=["edge", "shared", "memory", "server", "grpc"])
def client(request: pytest.FixtureRequest) -> QdrantBase:
    """Each kind of client in turn, the server's where there is one."""
    return request.getfixturevalue(f"{request.param}_client")


@pytest.fixture
def photos(client: QdrantBase, collection_name: str) -> str:
    """A collection of nine points: the vectors turn from (1, 0, …) to (0, 1, …), so the first is nearest to it."""
    client.create_collection(collection_name, vectors_config=COSINE)
    points = [
        models.PointStruct(
            id=UUIDS[i],
            vector=[8.0 - i, float(i), 0.0, 0.0],
            payload={"album": "abc"[i % 3], "year": 2020 + i, "good": i % 2 == 0, "exif": {"iso": 100 * i}},
        )
        for i in range(9)
    ]
    client.upsert(collection_name, points, wait=True)
    return collection_name


@pytest.fixture
def indexed_photos(client: QdrantBase, photos: str) -> str:
    """The same collection with the payload indexes that facets need."""
    for key, kind in {"album": "keyword", "year": "integer", "good": "bool"}.items():
        client.create_payload_index(photos, key, models.PayloadSchemaType(kind), wait=True)
    return photos


def test_a_collection_keeps_its_vector_size_distance_and_metadata(client, collection_name):
    made = call(
        lambda: client.create_collection(collection_name, vectors_config=COSINE, metadata={"a": {"b": [1, "x"]}}),
        what="create",
    )
    info = client.get_collection(collection_name)

    assert made is True
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (4, models.Distance.COSINE)
    assert info.config.metadata == {"a": {"b": [1, "x"]}}
    assert info.points_count == 0


def test_a_collection_without_metadata_has_none(client, collection_name):
    client.create_collection(collection_name, vectors_config=COSINE)

    assert not client.get_collection(collection_name).config.metadata


def test_creating_a_collection_twice_says_it_exists(client, collection_name):
    client.create_collection(collection_name, vectors_config=COSINE)

    with pytest.raises(CollectionExists, match=collection_name):
        call(lambda: client.create_collection(collection_name, vectors_config=COSINE), what="create")


@pytest.mark.parametrize(
    "operation",
    [
        lambda client, name: client.get_collection(name),
        lambda client, name: client.count(name),
        lambda client, name: client.retrieve(name, ids=[1]),
        lambda client, name: client.scroll(name),
        lambda client, name: client.query_points(name, query=[1.0, 0.0, 0.0, 0.0]),
        lambda client, name: client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 0.0, 0.0, 0.0])]),
        lambda client, name: client.delete(name, [1]),
        lambda client, name: client.update_collection(name, metadata={}),
    ],
    ids=["get", "count", "retrieve", "scroll", "query", "upsert", "delete", "update"],
)
def test_a_missing_collection_is_named(client, collection_name, operation):
    with pytest.raises(CollectionNotFound, match=collection_name):
        call(lambda: operation(client, collection_name), what="try")


def test_metadata_is_merged_at_the_top_level_and_none_removes_a_key(client, collection_name):
    client.create_collection(
        collection_name, vectors_config=COSINE, metadata={"kept": 1, "changed": {"x": 1}, "gone": 1}
    )

    client.update_collection(collection_name, metadata={"changed": {"y": 2}, "gone": None, "new": True})

    expected = {"kept": 1, "changed": {"y": 2}, "new": True}
    assert client.get_collection(collection_name).config.metadata == expected


def test_a_deleted_collection_is_gone(client, collection_name):
    client.create_collection(collection_name, vectors_config=COSINE)
    assert client.collection_exists(collection_name)
    assert collection_name in [one.name for one in client.get_collections().collections]

    assert client.delete_collection(collection_name) is True

    assert not client.collection_exists(collection_name)
    assert collection_name not in [one.name for one in client.get_collections().collections]
    assert client.delete_collection(collection_name) is False


def test_a_recreated_collection_is_empty(client, photos):
    client.delete_collection(photos)
    client.create_collection(photos, vectors_config=COSINE)

    assert client.count(photos).count == 0


@pytest.mark.filterwarnings("ignore:.*recreate_collection:DeprecationWarning")
def test_a_collection_recreated_in_one_call_is_empty_too(client, photos):
    for _ in range(2):
        assert client.recreate_collection(photos, vectors_config=COSINE, metadata={"a": 1}) is True
        assert client.count(photos).count == 0
        assert client.get_collection(photos).config.metadata == {"a": 1}
        client.delete_collection(photos)  # so that the second time there is nothing to delete


def test_an_alias_stands_for_its_collection_until_it_is_deleted(client, photos):
    alias, renamed = f"{photos}_alias", f"{photos}_renamed"

    def change(**operation: Any) -> None:
        client.update_collection_aliases([operation["do"]])

    change(do=models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=photos, alias_name=alias)))
    assert client.count(alias).count == 9
    assert client.collection_exists(alias)
    assert [one.alias_name for one in client.get_collection_aliases(photos).aliases] == [alias]

    rename = models.RenameAlias(old_alias_name=alias, new_alias_name=renamed)
    change(do=models.RenameAliasOperation(rename_alias=rename))
    assert client.query_points(renamed, query=UUIDS[0], limit=1).points[0].id == UUIDS[1]
    assert (renamed, photos) in [(one.alias_name, one.collection_name) for one in client.get_aliases().aliases]

    change(do=models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=renamed)))
    assert not client.get_collection_aliases(photos).aliases
    with pytest.raises(CollectionNotFound):
        call(lambda: client.count(renamed), what="count")


def test_an_alias_goes_with_its_collection(client, photos):
    new = models.CreateAlias(collection_name=photos, alias_name=f"{photos}_alias")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=new)])

    client.delete_collection(photos)

    assert f"{photos}_alias" not in [one.alias_name for one in client.get_aliases().aliases]


def test_an_alias_of_a_missing_collection_is_refused(client, photos):
    new = models.CreateAlias(collection_name=f"{photos}_not", alias_name=f"{photos}_alias")

    with pytest.raises(CollectionNotFound):
        call(
            lambda: client.update_collection_aliases([models.CreateAliasOperation(create_alias=new)]),
            what="alias",
        )
    assert f"{photos}_alias" not in [one.alias_name for one in client.get_aliases().aliases]


def test_points_come_back_in_the_order_asked_for_and_missing_ones_are_left_out(client, photos):
    missing = str(uuid.UUID(int=999))

    records = client.retrieve(photos, ids=[UUIDS[2], missing, UUIDS[0]])

    assert [record.id for record in records] == [UUIDS[2], UUIDS[0]]
    assert records[0].payload == {"album": "c", "year": 2022, "good": True, "exif": {"iso": 200}}
    assert records[0].vector is None


def test_vectors_come_back_with_norm_one(client, photos):
    record = client.retrieve(photos, ids=[UUIDS[4]], with_payload=False, with_vectors=True)[0]

    assert record.vector == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])
    assert record.payload is None or record.payload == {}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (["year"], {"year": 2021}),
        (["exif.iso"], {"exif": {"iso": 100}}),
        (models.PayloadSelectorExclude(exclude=["exif", "good"]), {"album": "b", "year": 2021}),
        (models.PayloadSelectorInclude(include=["album"]), {"album": "b"}),
    ],
)
def test_part_of_the_payload_can_be_asked_for(client, photos, choice, expected):
    assert client.retrieve(photos, ids=[UUIDS[1]], with_payload=choice)[0].payload == expected
    assert client.query_points(photos, query=[7.0, 1, 0, 0], limit=1, with_payload=choice).points[0].payload == expected
    assert client.scroll(photos, limit=2, with_payload=choice)[0][1].payload == expected


def test_integers_and_uuids_are_both_ids(client, photos):
    big = 2**63
    client.upsert(
        photos, [models.PointStruct(id=big, vector=[1.0, 0, 0, 0]), models.PointStruct(id=7, vector=[0, 1.0, 0, 0])]
    )

    assert [record.id for record in client.retrieve(photos, ids=[7, big, UUIDS[0]])] == [7, big, UUIDS[0]]


def test_writing_a_point_again_replaces_vector_and_payload(client, photos):
    client.upsert(photos, [models.PointStruct(id=UUIDS[0], vector=[0.0, 0, 1, 0], payload={"new": 1})])

    record = client.retrieve(photos, ids=[UUIDS[0]], with_vectors=True)[0]
    assert (record.payload, record.vector) == ({"new": 1}, [0, 0, 1, 0])
    assert client.count(photos).count == 9


def test_a_batch_writes_its_columns(client, photos):
    batch = models.Batch(ids=[1, 2], vectors=[[1.0, 0, 0, 0], [0.0, 1, 0, 0]], payloads=[{"n": 1}, {"n": 2}])
    client.upsert(photos, batch)

    assert [record.payload for record in client.retrieve(photos, ids=[2, 1])] == [{"n": 2}, {"n": 1}]


def test_points_can_be_only_inserted_or_only_updated(client, photos):
    def points(*ids: Any) -> list[models.PointStruct]:
        return [models.PointStruct(id=one, vector=[1.0, 0, 0, 0], payload={"mark": 1}) for one in ids]

    client.upsert(photos, points(UUIDS[0], 1), update_mode=models.UpdateMode.INSERT_ONLY)
    client.upsert(photos, points(UUIDS[1], 2), update_mode=models.UpdateMode.UPDATE_ONLY)
    client.upsert(photos, points(UUIDS[2], UUIDS[3]), update_filter=equals("album", "a"))

    marked = client.scroll(photos, scroll_filter=equals("mark", 1))[0]
    assert [record.id for record in marked] == [1, UUIDS[1], UUIDS[3]]


def test_a_stream_of_points_is_uploaded_whole(client, photos):
    stream = (models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i}) for i in range(150))

    client.upload_points(photos, stream, batch_size=64, wait=True)

    assert client.count(photos, count_filter=field("n", range=models.Range(gte=0))).count == 150


def test_payload_values_come_back_as_json(client, photos):
    payload = {
        "text": "naïve café 图 🐈",
        "when": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "none": None,
        "list": [1, 2.5, "x", None, {"y": []}],
        "nested": {"deep": {"deeper": True}},
        "big": 2**53,
        "id": uuid.UUID(int=5),
    }
    client.upsert(photos, [models.PointStruct(id=1, vector=[1.0, 0, 0, 0], payload=payload)])

    read = client.retrieve(photos, ids=[1])[0].payload
    when, identity = read.pop("when"), read.pop("id")
    assert datetime.fromisoformat(when.replace("Z", "+00:00")) == payload.pop("when")
    assert identity == str(payload.pop("id"))
    assert read == payload


def test_scrolling_visits_every_point_once_in_the_order_of_ids(client, photos):
    seen, offset, pages = [], None, 0
    while True:
        records, offset = client.scroll(photos, limit=4, offset=offset, with_payload=False)
        seen += [record.id for record in records]
        pages += 1
        if offset is None:
            break

    assert seen == UUIDS
    assert pages == 3


def test_scrolling_obeys_a_filter(client, photos):
    records, offset = client.scroll(photos, scroll_filter=equals("album", "b"), limit=2)

    assert [record.id for record in records] == [UUIDS[1], UUIDS[4]]
    assert offset == UUIDS[7]


def test_counting_obeys_a_filter(client, photos):
    assert client.count(photos).count == 9
    assert client.count(photos, count_filter=equals("good", True)).count == 5
    assert client.count(photos, count_filter=equals("good", False), exact=True).count == 4
    assert client.count(photos, count_filter=equals("album", "z")).count == 0


def test_a_query_gives_the_nearest_points_with_cosine_scores(client, photos):
    points = client.query_points(photos, query=[2.0, 0.0, 0.0, 0.0], limit=3).points

    assert [point.id for point in points] == UUIDS[:3]
    assert [point.score for point in points] == pytest.approx([1, 7 / 50**0.5, 6 / 40**0.5], abs=1e-5)
    assert points[1].payload["year"] == 2021
    assert points[1].vector is None


def test_a_query_obeys_filter_offset_limit_and_threshold(client, photos):
    def ids(**options: Any) -> list[Any]:
        return [point.id for point in client.query_points(photos, query=[1.0, 0.0, 0.0, 0.0], **options).points]

    assert ids(query_filter=equals("album", "a")) == [UUIDS[0], UUIDS[3], UUIDS[6]]
    assert ids(limit=2, offset=3) == UUIDS[3:5]
    assert ids(score_threshold=0.9) == UUIDS[:3]
    assert ids(score_threshold=0.9, query_filter=equals("good", True), offset=1) == [UUIDS[2]]


def test_a_query_can_return_vectors_and_leave_out_payloads(client, photos):
    point = client.query_points(photos, query=[0.0, 1, 0, 0], limit=1, with_payload=False, with_vectors=True).points[0]

    assert point.vector == pytest.approx([0, 1, 0, 0])
    assert not point.payload


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
def test_exact_search_can_be_asked_for(client, photos):
    params = models.SearchParams(exact=True)

    assert client.query_points(photos, query=[1.0, 0, 0, 0], limit=1, search_params=params).points[0].id == UUIDS[0]


def test_a_point_can_be_the_query_and_is_left_out_of_the_answer(client, photos):
    points = client.query_points(photos, query=UUIDS[4], limit=2).points
    assert {point.id for point in points} == {UUIDS[3], UUIDS[5]}

    filtered = client.query_points(photos, query=UUIDS[4], query_filter=equals("album", "b"), limit=9).points
    assert {point.id for point in filtered} == {UUIDS[1], UUIDS[7]}


def test_a_missing_point_cannot_be_the_query(client, photos):
    missing = str(uuid.UUID(int=999))

    with pytest.raises(StoreError, match=missing):
        call(lambda: client.query_points(photos, query=missing), what="query")


def test_without_a_query_points_come_in_the_order_of_ids(client, photos):
    assert [point.id for point in client.query_points(photos, limit=2, offset=1).points] == UUIDS[1:3]


def test_queries_can_be_batched(client, photos):
    requests = [
        models.QueryRequest(query=[1.0, 0.0, 0.0, 0.0], limit=1),
        models.QueryRequest(query=UUIDS[8], limit=2, filter=equals("good", True), with_payload=True),
    ]

    first, second = client.query_batch_points(photos, requests)

    assert [point.id for point in first.points] == [UUIDS[0]]
    assert [(point.id, point.payload["year"]) for point in second.points] == [(UUIDS[6], 2026), (UUIDS[4], 2024)]


def test_facets_count_values_most_frequent_first(client, indexed_photos):
    client.delete(indexed_photos, [UUIDS[0], UUIDS[1], UUIDS[3]])

    def hits(key: str, **options: Any) -> list[tuple[Any, int]]:
        return [(hit.value, hit.count) for hit in client.facet(indexed_photos, key, exact=True, **options).hits]

    assert hits("album") == [("c", 3), ("b", 2), ("a", 1)]
    assert hits("album", limit=1) == [("c", 3)]
    assert sorted(hits("good")) == [(False, 2), (True, 4)]
    assert hits("year", facet_filter=equals("album", "b")) == [(2024, 1), (2027, 1)]


def test_a_facet_has_no_value_that_is_gone(client, indexed_photos):
    client.delete(indexed_photos, equals("album", "b"), wait=True)

    assert {hit.value for hit in client.facet(indexed_photos, "album", exact=True).hits} == {"a", "c"}


def test_a_facet_counts_a_point_with_several_values_under_each(client, indexed_photos):
    client.upsert(indexed_photos, [models.PointStruct(id=1, vector=[1.0, 0, 0, 0], payload={"album": ["a", "z"]})])

    hits = client.facet(indexed_photos, "album", exact=True).hits
    assert {hit.value: hit.count for hit in hits} == {"a": 4, "b": 3, "c": 3, "z": 1}


def test_set_payload_merges_at_the_top_level_or_below_a_key(client, photos):
    client.set_payload(photos, {"album": "new", "exif": {"f": 2.8}}, points=[UUIDS[0]])
    client.set_payload(photos, {"f": 4.0}, points=[UUIDS[1]], key="exif")

    first, second = client.retrieve(photos, ids=UUIDS[:2])
    assert first.payload == {"album": "new", "year": 2020, "good": True, "exif": {"f": 2.8}}
    assert second.payload == {"album": "b", "year": 2021, "good": False, "exif": {"iso": 100, "f": 4.0}}


def test_overwrite_payload_replaces_everything(client, photos):
    client.overwrite_payload(photos, {"only": 1}, points=[UUIDS[0], UUIDS[1]])

    assert [record.payload for record in client.retrieve(photos, ids=UUIDS[:2])] == [{"only": 1}, {"only": 1}]
    assert client.count(photos, count_filter=equals("album", "a")).count == 2


def test_payload_can_be_changed_by_filter(client, photos):
    client.set_payload(photos, {"mark": 1}, points=equals("album", "a"))
    client.delete_payload(photos, ["year", "exif"], points=equals("album", "b"))
    client.clear_payload(photos, points_selector=equals("album", "c"))

    a, b, c = client.retrieve(photos, ids=UUIDS[:3])
    assert a.payload["mark"] == 1
    assert b.payload == {"album": "b", "good": False}
    assert c.payload == {}


def test_payload_can_be_removed_by_ids(client, photos):
    client.delete_payload(photos, ["year", "exif", "nothing"], points=[UUIDS[0]])
    client.clear_payload(photos, points_selector=[UUIDS[1]])

    first, second = client.retrieve(photos, ids=UUIDS[:2])
    assert first.payload == {"album": "a", "good": True}
    assert second.payload == {}


def test_changing_a_missing_point_is_reported_after_the_others_are_changed(client, photos):
    missing = str(uuid.UUID(int=999))

    with pytest.raises(StoreError, match=missing) as caught:
        call(lambda: client.set_payload(photos, {"mark": 1}, points=[UUIDS[0], missing]), what="set payload")

    assert not isinstance(caught.value, CollectionNotFound)
    assert client.retrieve(photos, ids=[UUIDS[0]])[0].payload["mark"] == 1
    assert client.count(photos).count == 9


def test_points_are_deleted_by_ids_or_by_filter(client, photos):
    client.delete(photos, points_selector=[UUIDS[0], str(uuid.UUID(int=999))])
    client.delete(photos, points_selector=models.PointIdsList(points=[UUIDS[1]]))
    assert client.count(photos).count == 7

    client.delete(photos, points_selector=equals("album", "c"))
    client.delete(photos, points_selector=models.FilterSelector(filter=equals("year", 2023)))
    assert [record.id for record in client.scroll(photos)[0]] == [UUIDS[4], UUIDS[6], UUIDS[7]]


def test_a_batch_with_one_vector_of_the_wrong_length_writes_nothing(client, photos):
    points = [
        models.PointStruct(id=1, vector=[1.0, 0.0, 0.0, 0.0]),
        models.PointStruct(id=2, vector=[1.0, 0.0, 0.0]),
    ]

    with pytest.raises(StoreError):
        call(lambda: client.upsert(photos, points), what="write")

    assert client.count(photos).count == 9


def test_a_query_of_the_wrong_length_is_refused(client, photos):
    with pytest.raises(StoreError):
        call(lambda: client.query_points(photos, query=[1.0, 0.0]), what="query")


def test_words_and_phrases_are_found_in_text(client, collection_name):
    client.create_collection(collection_name, vectors_config=COSINE)
    text = models.TextIndexParams(type=models.TextIndexType.TEXT, lowercase=True, phrase_matching=True)
    client.create_payload_index(collection_name, "caption", text, wait=True)
    captions = ["A dog on the green grass", "Green dog", "a cat sleeps"]
    client.upsert(
        collection_name,
        [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"caption": c}) for i, c in enumerate(captions)],
    )

    def ids(match: models.Match) -> list[Any]:
        return [record.id for record in client.scroll(collection_name, field("caption", match=match))[0]]

    assert ids(models.MatchText(text="dog GREEN")) == [0, 1]
    assert ids(models.MatchTextAny(text_any="cat grass")) == [0, 2]
    assert ids(models.MatchPhrase(phrase="green grass")) == [0]


def test_a_formula_scores_points_that_pass_all_of_the_filter(client, photos):
    conditions = [models.FieldCondition(key="year", range=models.Range(gte=year)) for year in (2022, 2024, 2026)]
    wanted = models.Filter(min_should=models.MinShould(conditions=conditions, min_count=3))
    prefetch = models.Prefetch(query=[1.0, 0.0, 0.0, 0.0], limit=9)

    found = client.query_points(
        photos, models.FormulaQuery(formula="$score"), prefetch=prefetch, query_filter=wanted, limit=9
    )

    assert {point.payload["year"] for point in found.points} == {2026, 2027, 2028}
