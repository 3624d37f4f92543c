"""How a collection comes to be, is opened again, and refuses what it was not made for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fakes import FakeEmbedder, RecordingClient, solid_image
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.description import FORMAT
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.text.vectors import sparse_params
from clip_qdrant.errors import (
    ConfigError,
    FilterError,
    FingerprintMismatch,
    MetadataError,
    StoreError,
    UnsupportedByEdge,
)
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import RESERVED_FIELDS
from clip_qdrant.store.edge.client import EdgeClient

RED = [solid_image("red")]


def indexes(client: QdrantBase, name: str = "photos") -> set[str]:
    return set(client.get_collection(name).payload_schema)


def keeps_indexes(client: QdrantBase) -> bool:
    """All but the QdrantClient that runs in this process."""
    return not (isinstance(client, QdrantClient) and client.init_options.get("location") == ":memory:")


def test_the_first_write_creates_the_collection(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    assert not photos.exists()
    photos.add(RED, metadata=[{"year": 2024}])
    assert photos.exists()
    assert client.get_collection("photos").config.metadata == {
        "clip_qdrant": {
            "format": FORMAT,
            "fingerprint": FakeEmbedder().fingerprint,
            "dim": 16,
            "distance": "Cosine",
            "fields": {"year": "integer"},
        }
    }


def test_every_field_has_a_payload_index(client: QdrantBase) -> None:
    if not keeps_indexes(client):
        pytest.skip("this client keeps no payload indexes")
    ImageCollection("photos", FakeEmbedder(), client, fields={"place": "geo"}).add(RED, metadata=[{"year": 2024}])
    assert indexes(client) == {*Schema({"year": "integer", "place": "geo"}).indexes()}


def test_opening_is_one_client_call(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    recorder: Any = RecordingClient(client)
    photos = ImageCollection("photos", FakeEmbedder(), recorder)
    assert recorder.calls == ["get_collection"]
    photos.search("red")
    assert recorder.calls == ["get_collection", "query_points"]


def test_opened_again_it_knows_its_fields(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED, metadata=[{"year": 2024, "exif": {"camera": "X100"}}])
    photos = ImageCollection("photos", FakeEmbedder(), client)
    assert photos.fields == {**RESERVED_FIELDS, "metadata.year": "integer", "metadata.exif.camera": "keyword"}
    with pytest.raises(MetadataError, match="year"):
        photos.add([solid_image("blue")], metadata=[{"year": "last"}])


NOTHING = [
    (lambda photos: photos.search("red"), []),
    (lambda photos: photos.search(where="year > 2020"), []),
    (lambda photos: photos.get("urn:x"), None),
    (len, 0),
    (lambda photos: photos.count("year > 2020"), 0),
    (lambda photos: photos.facet("fingerprint"), []),
    (lambda photos: photos.delete(where="image.width = 1"), 0),
]


@pytest.mark.parametrize(("use", "nothing"), NOTHING)
def test_a_collection_that_is_not_there_yet_holds_nothing(client: QdrantBase, use: Any, nothing: Any) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)

    assert use(photos) == nothing
    assert "no collection 'photos' yet" in str(photos.search("red").reason)


@pytest.mark.parametrize(("use", "nothing"), NOTHING)
def test_a_collection_that_is_deleted_meanwhile_holds_nothing(client: QdrantBase, use: Any, nothing: Any) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add([solid_image("red")], metadata=[{"year": 2024}])
    client.delete_collection("photos")

    assert use(photos) == nothing


def test_a_collection_made_after_it_was_looked_for_is_found(client: QdrantBase) -> None:
    early = ImageCollection("photos", FakeEmbedder(), client)
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    assert early.count() == 1


def test_another_embedder_is_refused_with_the_way_out(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(name="one"), client).add(RED)
    one, other = FakeEmbedder(name="one").fingerprint[:12], FakeEmbedder(name="other").fingerprint[:12]
    with pytest.raises(FingerprintMismatch, match=f"'photos'.*{one}.*{other}.*another collection"):
        ImageCollection("photos", FakeEmbedder(name="other"), client)


@pytest.mark.parametrize(
    ("made_by", "opened_by", "told"),
    [
        ("hf:a/b", "bundled", r"\w{12} \(hf:a/b, 16 dimensions\), not .*, \w{12} \(bundled, 24 d.* \(--model hf:a/b\)"),
        ("my best.pt", None, r"\w{12} \(my best.pt, 16 dimensions\), not .*, \w{12} \(24 d.* \(--model 'my best.pt'\)"),
        (None, "bundled", r"\w{12} \(16 dimensions\), not .*; take the model that made it \(--model\)"),
        ("mine.pt", "mine.pt", r"; mine.pt was another model when it did: take that one"),
    ],
)
def test_the_model_that_made_a_collection_is_named(
    client: QdrantBase, made_by: str | None, opened_by: str | None, told: str
) -> None:
    maker, other = FakeEmbedder(16), FakeEmbedder(24)
    for embedder, name in ((maker, made_by), (other, opened_by)):
        if name is not None:
            embedder.name = name
    ImageCollection("photos", maker, client).add(RED, metadata=[{"year": 2024}])

    with pytest.raises(FingerprintMismatch, match=told):
        ImageCollection("photos", other, client)


def test_another_embedder_is_refused_also_if_the_collection_came_after_opening(client: QdrantBase) -> None:
    late = ImageCollection("photos", FakeEmbedder(name="other"), client)
    ImageCollection("photos", FakeEmbedder(name="one"), client).add(RED)
    with pytest.raises(FingerprintMismatch):
        late.add(RED)
    with pytest.raises(FingerprintMismatch):
        late.search("red")


@pytest.mark.parametrize("dim", [16, 24])
@pytest.mark.parametrize(
    "use",
    [
        lambda photos: photos.search("red"),
        lambda photos: photos.search("red", group_by="year"),
        lambda photos: photos.search_batch(["red", "blue"]),
        lambda photos: photos.recommend(["red"], strategy="best"),
        lambda photos: photos.classify({"a": "red", "b": "blue"}),
        lambda photos: photos.add(RED, uris=["urn:x:2"]),
    ],
)
def test_a_collection_that_another_embedder_makes_anew_is_refused_from_then_on(
    client: QdrantBase, use: Any, dim: int
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED, uris=["urn:x:1"], metadata=[{"year": 2024}])
    client.delete_collection("photos")
    others = ImageCollection("photos", FakeEmbedder(dim, name="other"), client)
    others.add(RED, uris=["urn:x:1"], metadata=[{"year": 2024}])

    with pytest.raises(FingerprintMismatch, match=r"'photos' was made by embedder .* not by the one at hand"):
        use(photos)

    assert len(others) == 1


def test_fields_of_images_are_there_in_a_collection_that_was_made_anew_without_them(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED, uris=["urn:x:1"], metadata=[{"year": 2024}])
    client.delete_collection("photos")
    ImageCollection("photos", FakeEmbedder(), client).add(RED, uris=["urn:x:2"], metadata=[{"album": "sea"}])

    photos.add(RED, uris=["urn:x:1"], metadata=[{"year": 2024}])

    assert ImageCollection("photos", FakeEmbedder(), client).count("year = 2024 or album = 'sea'") == 2


def test_a_collection_made_by_something_else_is_refused(client: QdrantBase) -> None:
    client.create_collection("photos", models.VectorParams(size=16, distance=models.Distance.COSINE))
    with pytest.raises(StoreError, match=r"'photos' was not made by clip_qdrant.*another collection name"):
        ImageCollection("photos", FakeEmbedder(), client)


def test_a_later_layout_is_refused(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    profile = dict(client.get_collection("photos").config.metadata["clip_qdrant"])
    client.update_collection("photos", metadata={"clip_qdrant": {**profile, "format": FORMAT + 1}})
    with pytest.raises(StoreError, match=f"layout {FORMAT + 1}"):
        ImageCollection("photos", FakeEmbedder(), client)


def test_a_field_declared_with_another_type_is_refused(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED, metadata=[{"year": 2024}])
    with pytest.raises(ConfigError, match=r"'year'.*keyword.*integer"):
        ImageCollection("photos", FakeEmbedder(), client, fields={"year": "keyword"})


def test_a_declared_field_can_be_filtered_before_any_image_has_it(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client, fields={"year": "integer"})
    photos.add(RED)
    assert photos.search("red", where="year > 2000") == []


def test_a_field_declared_later_is_added_with_the_next_write(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    ImageCollection("photos", FakeEmbedder(), client, fields={"year": "integer"}).add([solid_image("blue")])
    assert ImageCollection("photos", FakeEmbedder(), client).fields["metadata.year"] == "integer"


def test_a_new_field_is_indexed_and_described_before_an_image_has_it(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    recorder: Any = RecordingClient(client)
    photos = ImageCollection("photos", FakeEmbedder(), recorder)
    photos.add([solid_image("blue")], metadata=[{"year": 2024}])
    changes = [name for name in recorder.calls if name in ("create_payload_index", "update_collection", "upsert")]
    assert changes == (["create_payload_index"] if keeps_indexes(client) else []) + ["update_collection", "upsert"]


def test_a_write_without_new_fields_is_one_call(client: QdrantBase) -> None:
    recorder: Any = RecordingClient(client)
    photos = ImageCollection("photos", FakeEmbedder(), recorder)
    photos.add(RED, metadata=[{"year": 2024}])
    recorder.calls.clear()
    photos.add([solid_image("blue")], metadata=[{"year": 2023}])
    assert recorder.calls == ["get_collection", "retrieve", "upsert"]


def test_a_crash_between_creation_and_the_last_index_is_healed_by_the_next_write(client: QdrantBase) -> None:
    if not keeps_indexes(client):
        pytest.skip("this client keeps no payload indexes")
    recorder: Any = RecordingClient(client)

    def crash_at_the_fifth() -> None:
        if recorder.calls.count("create_payload_index") == 5:
            raise KeyboardInterrupt

    recorder.before["create_payload_index"] = crash_at_the_fifth
    with pytest.raises(KeyboardInterrupt):
        ImageCollection("photos", FakeEmbedder(), recorder).add(RED, metadata=[{"year": 2024}])
    assert len(indexes(client)) == 4
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    assert indexes(client) == {*Schema({"year": "integer"}).indexes()}


def test_a_collection_that_appears_during_creation_is_used(client: QdrantBase) -> None:
    recorder: Any = RecordingClient(client)
    mine = ImageCollection("photos", FakeEmbedder(), recorder)

    def another_process_is_first() -> None:
        recorder.before.clear()
        client.create_collection(
            "photos",
            models.VectorParams(size=16, distance=models.Distance.COSINE),
            sparse_vectors_config=sparse_params(),
            metadata={
                "clip_qdrant": {
                    "format": FORMAT,
                    "fingerprint": FakeEmbedder().fingerprint,
                    "dim": 16,
                    "distance": "Cosine",
                    "fields": {"album": "keyword"},
                }
            },
        )

    recorder.before["create_collection"] = another_process_is_first
    mine.add(RED, metadata=[{"year": 2024}])
    photos = ImageCollection("photos", FakeEmbedder(), client)
    assert photos.count("year = 2024") == 1
    assert {"metadata.album", "metadata.year"} <= photos.fields.keys()


def test_fields_added_at_once_by_several_threads_are_all_kept(client: QdrantBase) -> None:
    collections = [ImageCollection("photos", FakeEmbedder(), client) for _ in range(6)]
    barrier = threading.Barrier(len(collections))
    errors: list[Exception] = []

    def add(number: int) -> None:
        try:
            barrier.wait()
            image = solid_image((number, 0, 0))
            collections[number].add([image], metadata=[{f"field_{number}": number}])
        except Exception as error:  # noqa: BLE001  a thread's error is reported by the test
            errors.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(len(collections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    photos = ImageCollection("photos", FakeEmbedder(), client)
    assert photos.count() == len(collections)
    assert [photos.count(f"field_{number} = {number}") for number in range(len(collections))] == [1] * len(collections)


def test_a_field_that_another_writer_described_away_is_found_by_its_index(client: QdrantBase) -> None:
    if not keeps_indexes(client):
        pytest.skip("this client keeps no payload indexes")
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    profile = client.get_collection("photos").config.metadata["clip_qdrant"]
    ImageCollection("photos", FakeEmbedder(), client).add([solid_image("blue")], metadata=[{"year": 2024}])
    client.update_collection("photos", metadata={"clip_qdrant": profile})
    photos = ImageCollection("photos", FakeEmbedder(), client)
    assert photos.count("year = 2024") == 1
    photos.add([solid_image("green")])
    assert client.get_collection("photos").config.metadata["clip_qdrant"]["fields"] == {"year": "integer"}


def test_a_field_that_another_process_added_is_known_before_it_is_refused(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED)
    ImageCollection("photos", FakeEmbedder(), client).add([solid_image("blue")], metadata=[{"year": 2024}])
    assert [hit.metadata for hit in photos.search("red", where="year = 2024")] == [{"year": 2024}]
    with pytest.raises(FilterError, match="decade"):
        photos.search("red", where="decade = 202")


def test_a_type_that_another_process_gave_a_field_first_is_respected(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED)
    ImageCollection("photos", FakeEmbedder(), client).add([solid_image("blue")], metadata=[{"year": "unknown"}])
    with pytest.raises(MetadataError, match="year"):
        photos.add([solid_image("green")], metadata=[{"year": 2024}])
    assert photos.count() == 2


def test_a_dropped_collection_is_gone_and_can_be_made_anew(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.drop()  # nothing there yet: no error
    photos.add(RED, metadata=[{"year": 2024}])
    photos.drop()
    assert not photos.exists()
    assert photos.writer.read_payloads(["urn:x"]) == {}
    photos.add(RED, metadata=[{"year": "now a text"}])
    assert photos.count() == 1


def test_a_collection_that_somebody_deleted_is_made_again_by_a_write(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED)
    client.delete_collection("photos")
    photos.add(RED, metadata=[{"year": 2024}])
    assert ImageCollection("photos", FakeEmbedder(), client).count("year = 2024") == 1


def test_a_collection_needs_a_name(client: QdrantBase) -> None:
    with pytest.raises(ConfigError, match="name"):
        ImageCollection("", FakeEmbedder(), client)


def test_vectors_of_another_length_than_described_are_refused(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(dim=16), client)
    photos.add(RED)
    profile = client.get_collection("photos").config.metadata
    client.delete_collection("photos")
    client.create_collection("photos", models.VectorParams(size=8, distance=models.Distance.COSINE), metadata=profile)
    with pytest.raises(StoreError, match="16 dimensions"):
        ImageCollection("photos", FakeEmbedder(dim=16), client)


def test_a_collection_without_a_vector_for_words_is_refused(client: QdrantBase) -> None:
    ImageCollection("photos", FakeEmbedder(), client).add(RED)
    profile = client.get_collection("photos").config.metadata
    client.delete_collection("photos")
    client.create_collection("photos", models.VectorParams(size=16, distance=models.Distance.COSINE), metadata=profile)
    with pytest.raises(StoreError, match="no sparse vector 'text'"):
        ImageCollection("photos", FakeEmbedder(), client)


@pytest.mark.parametrize("where", ["year =", "= 3", "year ~ 'x'", "year = 'x'", {"year": {"like": 1}}, 7])
def test_a_where_that_is_wrong_in_itself_is_refused_without_asking_the_store(client: QdrantBase, where: Any) -> None:
    recorder: Any = RecordingClient(client)
    photos = ImageCollection("photos", FakeEmbedder(), recorder)
    photos.add(RED, metadata=[{"year": 2024}])
    recorder.calls.clear()
    with pytest.raises(FilterError):
        photos.search("red", where=where)
    assert recorder.calls == []


@pytest.mark.parametrize(
    "where",
    [
        "decade = 202",
        {"decade": 202},
        models.Filter(must=[models.FieldCondition(key="metadata.decade", match=models.MatchValue(value=202))]),
    ],
)
def test_a_field_that_is_not_known_is_looked_for_once(client: QdrantBase, where: Any) -> None:
    recorder: Any = RecordingClient(client)
    photos = ImageCollection("photos", FakeEmbedder(), recorder)
    photos.add(RED, metadata=[{"year": 2024}])
    recorder.calls.clear()
    with pytest.raises(FilterError, match="decade") as caught:
        photos.count(where)
    assert caught.value.unknown_field in ("decade", "metadata.decade")
    assert recorder.calls == ["get_collection"]
    ImageCollection("photos", FakeEmbedder(), client).add([solid_image("blue")], metadata=[{"decade": 202}])
    assert photos.count(where) == 1


def test_a_new_collection_is_spread_over_a_cluster_as_asked(memory_client: QdrantBase) -> None:
    asked: dict[str, Any] = {}
    create = memory_client.create_collection

    def recorded(name: str, **options: Any) -> Any:
        asked.update(options)
        return create(name, **options)

    memory_client.create_collection = recorded  # type: ignore[method-assign]  # watched, not changed
    ImageCollection("photos", FakeEmbedder(), memory_client, shard_number=6, replication_factor=2).writer.prepare([])
    assert (asked["shard_number"], asked["replication_factor"]) == (6, 2)


def test_an_embedded_store_has_no_shards(edge_client: EdgeClient) -> None:
    with pytest.raises(UnsupportedByEdge, match="shard_number"):
        ImageCollection("photos", FakeEmbedder(), edge_client, shard_number=2).writer.prepare([])
    with pytest.raises(ConfigError, match="shard_number must be at least 1, not 0"):
        ImageCollection("photos", FakeEmbedder(), edge_client, shard_number=0)


def test_a_collection_that_was_just_made_lacks_nothing(client: QdrantBase, caplog: pytest.LogCaptureFixture) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add(RED)

    assert len(photos.search("red")) == 1
    assert caplog.messages == []
