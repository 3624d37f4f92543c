"""EdgeClient refuses what would harm the store, before the engine sees it, and says what it cannot do."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import RecordingClient
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    InvalidPoint,
    InvalidRequest,
    StoreError,
    UnsupportedByEdge,
)
from clip_qdrant.store.edge.client import EdgeClient

COSINE = models.VectorParams(size=3, distance=models.Distance.COSINE)
GOOD = [1.0, 0.0, 0.0]


@pytest.fixture
def client(edge_client: EdgeClient) -> EdgeClient:
    edge_client.create_collection("c", COSINE)
    return edge_client


def point(**values: Any) -> models.PointStruct:
    # Without pydantic's checks: the guards must not rest on them.
    return models.PointStruct.model_construct(**{"id": 5, "vector": GOOD, "payload": None, **values})


@pytest.mark.parametrize(
    "bad",
    [
        {"vector": [1.0, 0.0]},
        {"vector": [[1.0], [2.0, 3.0]]},
        {"vector": ["x", "y", "z"]},
        {"vector": [1.0, float("nan"), 0.0]},
        {"vector": [1.0, float("inf"), 0.0]},
        {"vector": [1.0, 1e39, 0.0]},
        {"vector": [0.0, 0.0, 0.0]},
        {"vector": {"image": GOOD}},
        {"vector": {"": [1.0]}},
        {"vector": models.SparseVector(indices=[1], values=[1.0])},
        {"payload": {"x": float("nan")}},
        {"payload": {"x": "a\udc80"}},
        {"payload": {"x": object()}},
    ],
)
def test_a_point_that_must_not_be_stored_is_named_and_nothing_is_written(
    client: EdgeClient, bad: dict[str, Any]
) -> None:
    with pytest.raises(InvalidPoint, match="point 5"):
        client.upsert("c", [point(id=1), point(**bad), point(id=2)])

    assert client.count("c").count == 0


@pytest.mark.parametrize("bad", ["not-a-uuid", -1, 2**64, True, 1.5, None, ""])
def test_an_id_that_is_neither_a_uuid_nor_an_unsigned_integer_is_refused(client: EdgeClient, bad: Any) -> None:
    for use in (
        lambda: client.upsert("c", [point(id=bad)]),
        lambda: client.retrieve("c", [bad]),
        lambda: client.delete("c", [bad]),
        lambda: client.set_payload("c", {}, points=[bad]),
    ):
        with pytest.raises(InvalidPoint, match="not a point id"):
            use()


def test_a_rejected_write_does_not_come_back_when_the_store_is_opened_again(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        for bad in ([1.0], [0.0, 0.0, 0.0], {"other": GOOD}):
            with pytest.raises(InvalidPoint):
                client.upsert("c", [point(vector=bad)])

    with EdgeClient(tmp_path) as client:
        assert client.scroll("c") == ([], None)


def test_a_change_of_a_missing_point_changes_no_other_when_the_store_is_opened_again(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.upsert("c", [point(id=1, payload={"n": 1}), point(id=2, payload={"n": 2})])
    for change in (client.set_payload, client.overwrite_payload):
        with pytest.raises(StoreError, match="there is no point 77"):
            change("c", {"a": 1}, points=[1, 77])
    acknowledged = client.scroll("c")
    assert [record.payload for record in acknowledged[0]] == [{"a": 1}, {"n": 2}]
    del client, change  # not closed: what comes back is what the log holds

    with EdgeClient(tmp_path) as client:
        assert client.scroll("c") == acknowledged


@pytest.mark.parametrize(
    "refused",
    [
        lambda c: c.set_payload("c", {"a": 1}, points=[1], key='a"b'),
        lambda c: c.set_payload("c", {"a": 1}, points=models.Filter(), key="a[b"),
        lambda c: c.overwrite_payload("c", {"a": 1}, points=[1], key="a\\b"),
        lambda c: c.delete_payload("c", ["n", 'a"b'], points=[1]),
        lambda c: c.delete_payload("c", ["n", "\udc80"], points=[1]),
        lambda c: c.create_payload_index("c", 'metadata."a\\b"', "keyword"),
        lambda c: c.create_payload_index("c", "", "keyword"),
        lambda c: c.delete("c", models.Filter(must=[models.HasIdCondition(has_id=[1]), BAD_PATH])),
    ],
)
def test_what_the_engine_refuses_by_itself_does_not_come_back_either(tmp_path: Path, refused: Any) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.upsert("c", [point(id=1, payload={"n": 1})])
    with pytest.raises(StoreError):
        refused(client)
    client.upsert("c", [point(id=2, payload={"n": 2})])
    del client  # not closed: what comes back is what the log holds

    with EdgeClient(tmp_path) as client:
        assert [record.payload for record in client.scroll("c")[0]] == [{"n": 1}, {"n": 2}]
        assert client.get_collection("c").payload_schema == {}
        client.upsert("c", [point(id=3)])


BAD_PATH = models.FieldCondition(key='a"b', match=models.MatchValue(value=1))


@pytest.mark.parametrize(
    ("params", "options", "error"),
    [
        ({"x/y": COSINE}, {}, StoreError),
        (COSINE, {"sparse_vectors_config": {"": {}}}, StoreError),
        (COSINE, {"hnsw_config": {"m": "many"}}, StoreError),
        (COSINE.model_copy(update={"size": 0}), {}, StoreError),
        (COSINE, {"shard_number": 2}, UnsupportedByEdge),
        (COSINE, {"metadata": {"a": object()}}, StoreError),
        (COSINE, {"metadata": {"a": float("nan")}}, StoreError),
    ],
)
def test_a_collection_that_cannot_be_recreated_stays_as_it_is(
    client: EdgeClient, params: Any, options: dict[str, Any], error: type[StoreError]
) -> None:
    client.upsert("c", [point(id=1)])

    with pytest.raises(error):
        client.recreate_collection("c", params, **options)

    assert client.count("c").count == 1


def test_optimize_of_the_engine_is_never_called_in_the_process_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = ("-c", 'print(\'{"changed": false, "points": 19}\')')  # finds nothing to do
    monkeypatch.setattr("clip_qdrant.store.edge.optimize._MODULE", child)
    monkeypatch.setattr("clip_qdrant.store.edge.points._POINTS_A_FLUSH", 5)
    for opening in range(2):
        with EdgeClient(tmp_path) as client:
            if opening == 0:
                client.create_collection("c", COSINE)
            shard = recorded_shard(client)
            client.create_payload_index("c", "n", "integer")
            client.upsert("c", [point(id=i, payload={"n": i}) for i in range(20)])
            client.set_payload("c", {"m": 1}, points=[0])
            client.query_points("c", query=GOOD, search_params=models.SearchParams(exact=True))
            client.scroll("c")
            client.facet("c", "n")
            client.delete("c", [1])
            client.get_collection("c")
            client.explain_optimize("c")
            client.optimize("c")
        assert {"update", "query", "scroll", "facet", "flush", "info", "close"} <= set(shard.calls)
        assert "optimize" not in shard.calls


def recorded_shard(client: EdgeClient) -> RecordingClient:
    """The shard of the collection c, from now on behind a record of what it is asked."""
    client.count("c")
    [opened] = client._folder._open_shards.values()
    recorder: Any = RecordingClient(opened.shard)
    opened.shard = recorder
    return recorder


@pytest.mark.parametrize("bad", [[1.0], [0.0, 0.0, 0.0], [float("nan"), 0, 0], "no-uuid"])
def test_a_query_vector_that_does_not_fit_is_refused(client: EdgeClient, bad: Any) -> None:
    with pytest.raises(InvalidPoint):
        client.query_points("c", query=bad)


def test_very_small_and_very_large_vectors_keep_their_direction(client: EdgeClient) -> None:
    client.upsert("c", [point(id=1, vector=[3e-38, 4e-38, 0.0]), point(id=2, vector=[3e38, 0.0, 0.0])])

    small, large = client.retrieve("c", [1, 2], with_vectors=True)
    assert small.vector == pytest.approx([0.6, 0.8, 0.0], abs=1e-6)
    assert large.vector == pytest.approx([1.0, 0.0, 0.0])


def test_zero_vectors_are_fine_where_they_have_a_meaning(edge_client: EdgeClient) -> None:
    edge_client.create_collection("d", models.VectorParams(size=3, distance=models.Distance.EUCLID))
    edge_client.upsert("d", [point(id=1, vector=[0.0, 0.0, 0.0]), point(id=2, vector=[3.0, 4.0, 0.0])])

    points = edge_client.query_points("d", query=[0.0, 0.0, 0.0]).points
    assert [(one.id, one.score) for one in points] == [(1, 0.0), (2, 5.0)]


def test_numpy_vectors_are_taken(client: EdgeClient) -> None:
    client.upsert("c", [point(id=1, vector=np.array([0.0, 2.0, 0.0], dtype=np.float32))])

    assert client.query_points("c", query=np.array([0.0, 1.0, 0.0])).points[0].score == pytest.approx(1.0)


def test_batch_columns_of_different_lengths_are_refused(client: EdgeClient) -> None:
    batch = models.Batch.model_construct(ids=[1, 2], vectors=[GOOD], payloads=None)
    with pytest.raises(InvalidPoint, match="2 ids, 1 vectors"):
        client.upsert("c", batch)


def test_writing_no_points_is_refused(client: EdgeClient) -> None:
    with pytest.raises(InvalidPoint, match="no points"):
        client.upsert("c", [])


def test_a_facet_without_an_index_says_how_to_make_one(client: EdgeClient) -> None:
    with pytest.raises(StoreError, match=r"create_payload_index\('c', 'album', 'keyword'\)"):
        client.facet("c", "album")

    client.create_payload_index("c", "album", models.PayloadSchemaType.FLOAT)
    with pytest.raises(StoreError, match="needs a payload index of type keyword"):
        client.facet("c", "album")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(client: EdgeClient, limit: int) -> None:
    for use in (client.query_points, client.scroll):
        with pytest.raises(StoreError, match=f"limit is {limit}"):
            use("c", limit=limit)


@pytest.mark.parametrize("number", [-1, 2**64, 10**30])
def test_numbers_that_the_engine_cannot_hold_are_refused(client: EdgeClient, number: int) -> None:
    for use in (
        lambda: client.query_points("c", query=GOOD, offset=number),
        lambda: client.query_points("c", query=GOOD, limit=number),
        lambda: client.scroll("c", limit=number),
        lambda: client.facet("c", "n", limit=number),
    ):
        with pytest.raises(StoreError):
            use()
    params = models.SearchParams.model_construct(hnsw_ef=number)
    with pytest.raises(InvalidRequest, match=f"hnsw_ef is {number}: it must be a whole number from 0"):
        client.query_points("c", query=GOOD, search_params=params)


@pytest.mark.parametrize("key", ["", "a[b", 'an "open'])
def test_what_is_no_payload_key_is_named(client: EdgeClient, key: str) -> None:
    client.upsert("c", [point(id=1)])
    chosen = models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=1))])
    for use in (
        lambda: client.query_points("c", query=GOOD, query_filter=chosen),
        lambda: client.query_points("c", query=GOOD, with_payload=[key]),
        lambda: client.scroll("c", with_payload=models.PayloadSelectorExclude(exclude=[key])),
        lambda: client.retrieve("c", [1], with_payload=[key]),
        lambda: client.query_points_groups("c", group_by=key, query=GOOD),
        lambda: client.create_payload_index("c", key, "keyword"),
        lambda: client.delete_payload("c", [key], [1]),
    ):
        with pytest.raises(InvalidRequest) as caught:
            use()
        assert str(caught.value).startswith(f"{key!r} is no payload key: ")


@pytest.mark.parametrize("limit", [2**40, 2**64 - 1])
def test_a_limit_far_beyond_the_points_gives_them_all(client: EdgeClient, limit: int) -> None:
    client.upsert("c", [point(id=1)])

    assert len(client.query_points("c", query=GOOD, limit=limit).points) == 1
    assert client.query_points("c", query=GOOD, offset=limit).points == []


def test_an_unknown_type_of_index_is_refused_naming_those_there_are(client: EdgeClient) -> None:
    with pytest.raises(StoreError, match=r"'foo' is no type of payload index; there are keyword, integer"):
        client.create_payload_index("c", "year", "foo")


def test_a_missing_collection_error_names_those_there_are(client: EdgeClient) -> None:
    client.create_collection("b", COSINE)

    with pytest.raises(CollectionNotFound, match="'photos'; collections here: b, c"):
        client.count("photos")


def test_a_name_is_used_once_for_collections_and_aliases(client: EdgeClient) -> None:
    new = models.CreateAlias(collection_name="c", alias_name="alias")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=new)])

    with pytest.raises(CollectionExists):
        client.create_collection("alias", COSINE)
    with pytest.raises(StoreError, match="'c' is a collection"):
        taken = models.CreateAlias(collection_name="c", alias_name="c")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=taken)])


def test_if_one_alias_operation_fails_none_is_done(client: EdgeClient) -> None:
    fine = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="c", alias_name="fine"))
    rename = models.RenameAlias(old_alias_name="no such", new_alias_name="x")

    with pytest.raises(StoreError, match="no alias 'no such'"):
        client.update_collection_aliases([fine, models.RenameAliasOperation(rename_alias=rename)])

    assert client.get_aliases().aliases == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a:b", "a" * 256, "a\x00b"])
def test_names_that_a_server_refuses_are_refused(client: EdgeClient, name: str) -> None:
    with pytest.raises(StoreError):
        client.create_collection(name, COSINE)


@pytest.mark.parametrize("name", ["Photos", "photos", "фото", "a b", "100%", "-", "x" * 255])
def test_any_other_name_makes_a_collection_of_its_own(client: EdgeClient, name: str) -> None:
    client.create_collection(name, COSINE)
    client.upsert(name, [point(id=1)])

    assert client.count(name).count == 1
    assert client.count("c").count == 0


@pytest.mark.parametrize(
    ("thing", "use"),
    [
        ("shard_number", lambda c: c.create_collection("x", COSINE, shard_number=2)),
        ("shard_key_selector", lambda c: c.count("c", shard_key_selector="x")),
        ("inference", lambda c: c.upsert("c", [point(vector=models.Document(text="a dog", model="m"))])),
        ("recover_snapshot", lambda c: c.recover_snapshot("c", "file:///x")),
        ("create_shard_key", lambda c: c.create_shard_key("c", "x")),
    ],
)
def test_what_the_engine_cannot_do_is_named_with_the_way_out(client: EdgeClient, thing: str, use: Any) -> None:
    with pytest.raises(UnsupportedByEdge, match=rf"cannot do .*({thing}).*run a Qdrant server"):
        use(client)

    assert not client.collection_exists("x")


def test_every_method_of_the_client_api_is_done_or_refused(client: EdgeClient) -> None:
    names = [name for name in vars(QdrantBase) if not name.startswith("_")]

    assert len(names) > 40
    assert [name for name in names if getattr(EdgeClient, name) is getattr(QdrantBase, name)] == []


def test_options_that_change_nothing_are_accepted(client: EdgeClient) -> None:
    client.upsert("c", [point(id=1)], wait=False, ordering=None, timeout=3)
    client.upload_points("c", [point(id=2)], parallel=2, max_retries=1, wait=True)

    assert client.count("c", timeout=1, shard_key_selector=None).count == 2


def test_indexes_are_listed_with_type_and_number_of_points(client: EdgeClient) -> None:
    text = models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True, phrase_matching=True
    )
    client.create_payload_index("c", "caption", text)
    client.create_payload_index("c", "year", "integer")
    client.create_payload_index("c", "year", models.PayloadSchemaType.INTEGER)
    client.create_payload_index("c", "gone", models.KeywordIndexParams(type="keyword", prefix=True))
    client.delete_payload_index("c", "gone")
    client.upsert("c", [point(id=1, payload={"year": 2024})])

    schema = client.get_collection("c").payload_schema
    assert set(schema) == {"caption", "year"}
    assert (schema["year"].data_type, schema["year"].points) == (models.PayloadSchemaType.INTEGER, 1)
    assert schema["caption"].data_type == models.PayloadSchemaType.TEXT
    assert schema["caption"].params.phrase_matching is True


def test_an_index_of_another_type_replaces_the_first(client: EdgeClient) -> None:
    client.create_payload_index("c", "year", models.PayloadSchemaType.KEYWORD)
    client.create_payload_index("c", "year", models.PayloadSchemaType.INTEGER)
    client.upsert("c", [point(id=1, payload={"year": 2024})])

    assert [(hit.value, hit.count) for hit in client.facet("c", "year").hits] == [(2024, 1)]


def test_an_index_that_is_there_already_is_not_built_again(client: EdgeClient) -> None:
    text = models.TextIndexParams(type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True)
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    wanted = {"caption": text, "album": tenant, "year": models.PayloadSchemaType.INTEGER, "place": "geo"}
    for name, schema in wanted.items():
        client.create_payload_index("c", name, schema)
    shard = recorded_shard(client)

    for name, schema in wanted.items():
        client.create_payload_index("c", name, schema.model_copy() if name in ("caption", "album") else schema)
    assert "update" not in shard.calls

    client.create_payload_index("c", "caption", text.model_copy(update={"phrase_matching": True}))
    client.create_payload_index("c", "album", "keyword")
    client.create_payload_index("c", "year", "float")
    assert shard.calls.count("update") == 3
    schema = client.get_collection("c").payload_schema
    assert schema["caption"].params.phrase_matching is True
    assert schema["year"].data_type == models.PayloadSchemaType.FLOAT


def test_the_engine_gives_its_name_and_version(client: EdgeClient) -> None:
    assert client.info().title == "qdrant-edge-py"
    assert client.info().version.split(".")[0].isdigit()


def test_a_file_or_the_storage_of_another_qdrant_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        EdgeClient(tmp_path / "file")

    for foreign in ("meta.json", "raft_state.json"):
        folder = tmp_path / foreign.partition(".")[0]
        folder.mkdir()
        (folder / foreign).write_text("{}")
        with pytest.raises(ConfigError, match="another folder"):
            EdgeClient(folder)


def test_reading_an_empty_store_makes_no_folder(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "none") as client:
        assert client.get_collections().collections == []
        assert not client.collection_exists("c")
        assert client.delete_collection("c") is False
        for use in (lambda: client.count("c"), lambda: client.update_collection("c", metadata={"a": 1})):
            with pytest.raises(CollectionNotFound, match="none yet"):
                use()

    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with EdgeClient(tmp_path / "file" / "store") as client:
        assert not client.collection_exists("c")
        with pytest.raises(StoreError, match="cannot write to"):
            client.create_collection("c", COSINE)


def test_a_path_that_the_system_cannot_look_at_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="cannot look into"):
        EdgeClient("x" * 5000)


def test_uuids_are_read_in_every_usual_spelling(client: EdgeClient) -> None:
    one = uuid.UUID(int=7)
    client.upsert("c", [point(id=one)])

    for spelling in (one, str(one), one.hex, str(one).upper(), one.urn):
        assert [record.id for record in client.retrieve("c", [spelling])] == [str(one)]
