"""Documents with images in a ClipQdrantDocumentStore: what they are known by, what comes back, what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, RecordingClient, solid_image, write_image
from qdrant_client import QdrantClient

from clip_qdrant import ImageCollection
from clip_qdrant.errors import ConfigError, FingerprintMismatch, MetadataError, NotAnImage, SourceError
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.uris import point_id, to_uri

pytest.importorskip("haystack", reason="haystack-ai is not installed")

from haystack import Document
from haystack.core.errors import SerializationError
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from haystack_integrations.document_stores.clip_qdrant import ClipQdrantDocumentStore, document_store


@pytest.fixture
def images() -> Iterator[ImageCollection]:
    client = QdrantClient(":memory:")
    yield ImageCollection("images", FakeEmbedder(), client)
    client.close()


@pytest.fixture
def store(images: ImageCollection, tmp_path: Path) -> ClipQdrantDocumentStore:
    for colour in ("red", "green", "blue"):
        write_image(tmp_path / f"{colour}.png", colour)
    return ClipQdrantDocumentStore.wrap(images, root_path=str(tmp_path))


def png(colour: str) -> bytes:
    file = io.BytesIO()
    solid_image(colour).save(file, "PNG")
    return file.getvalue()


def test_an_image_is_stored_as_ingestion_stores_it(store: ClipQdrantDocumentStore, tmp_path: Path) -> None:
    document = Document(content="a red square", meta={"file_path": "red.png", "year": 2024})

    assert store.write_documents([document]) == 1

    stored = store.images.get(tmp_path / "red.png")
    assert stored is not None
    assert stored.caption == "a red square"
    assert stored.metadata == {"year": 2024, "haystack_id": document.id}
    assert stored.payload["image"]["width"] == 24
    np.testing.assert_allclose(
        store.images.search("red", vectors=True)[0].vector,
        store.images.embedder.embed_images([png("red")])[0],
        atol=1e-6,
    )


def test_a_document_comes_back_with_its_id_its_path_and_its_uri(store: ClipQdrantDocumentStore, tmp_path: Path) -> None:
    store.write_documents([Document(id="mine", content="red", meta={"file_path": "red.png", "year": 2024})])

    (found,) = store.filter_documents()

    assert (found.id, found.content) == ("mine", "red")
    assert found.meta == {"file_path": "red.png", "uri": to_uri(tmp_path / "red.png"), "year": 2024}


def test_what_came_back_is_written_again_without_a_change(store: ClipQdrantDocumentStore) -> None:
    written = [
        Document(content="red", meta={"file_path": "red.png", "taken_at": "2024-05-01T18:30:00+02:00"}),
        Document(id="text/1 é", content="words alone", meta={"tags": ["a", "b"]}),
        Document(id="bytes", blob=ByteStream(png("blue"), mime_type="image/png")),
    ]
    store.write_documents(written)
    before = store.filter_documents()

    assert store.write_documents(before) == 3

    assert sorted(map(repr, store.filter_documents())) == sorted(map(repr, before))
    assert {document.id for document in before} == {document.id for document in written}


@pytest.mark.parametrize("uri", ["s3://bucket/far.png", "file:///photos.tar#far.png"])
def test_a_caption_is_written_back_although_the_image_is_out_of_reach(
    store: ClipQdrantDocumentStore, images: ImageCollection, uri: str
) -> None:
    images.add([png("red")], uris=[uri], metadata=[{"year": 2024}])
    before = images.search("red", vectors=True)[0]
    (document,) = store.filter_documents()

    captioned = replace(document, content="a red field", meta={**document.meta, "by": "a model"})
    assert store.write_documents([captioned]) == 1

    after = images.search("red", vectors=True)[0]
    assert (after.caption, after.metadata) == ("a red field", {"year": 2024, "by": "a model"})
    assert after.payload["image"] == before.payload["image"]
    assert after.score == before.score
    assert after.payload["edits"] == {"caption": "a red field", "by": "a model"}  # which ingestion keeps


def test_a_document_with_its_embedding_comes_back_without_losing_its_image(
    store: ClipQdrantDocumentStore, images: ImageCollection, tmp_path: Path
) -> None:
    images.add([tmp_path / "red.png"])
    hit = images.search("red", vectors=True)[0]

    store.write_documents([replace(store.make_document(hit), content="red")])

    after = images.search("red", vectors=True)[0]
    assert (after.caption, after.payload["image"]) == ("red", hit.payload["image"])
    np.testing.assert_array_equal(after.vector, hit.vector)


def test_a_document_that_came_back_with_another_image_is_embedded_anew(
    store: ClipQdrantDocumentStore, images: ImageCollection
) -> None:
    images.add([png("red")], uris=["s3://bucket/sign.png"])
    (document,) = store.filter_documents()

    store.write_documents([replace(document, blob=ByteStream(png("blue"), mime_type="image/png"))])

    (hit,) = images.search(png("blue"))
    assert hit.uri == "s3://bucket/sign.png"
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_images_of_another_writer_are_documents_known_by_their_points(
    store: ClipQdrantDocumentStore, images: ImageCollection, tmp_path: Path
) -> None:
    images.add([tmp_path / "green.png"], captions=["green"])
    name = point_id(to_uri(tmp_path / "green.png"))

    (found,) = store.filter_documents({"field": "id", "operator": "==", "value": name})
    assert (found.id, found.content, found.meta["file_path"]) == (name, "green", "green.png")
    again = Document(content="another", meta={"file_path": "green.png"})
    assert store.write_documents([again], policy=DuplicatePolicy.SKIP) == 0
    with pytest.raises(DuplicateDocumentError, match=r"green\.png\) is stored already"):
        store.write_documents([again], policy=DuplicatePolicy.FAIL)
    store.delete_documents([name])
    assert store.count_documents() == 0


def test_a_document_whose_image_is_another_one_now_leaves_none_behind(store: ClipQdrantDocumentStore) -> None:
    store.write_documents([Document(id="logo", meta={"file_path": "red.png"})])

    store.write_documents([Document(id="logo", meta={"file_path": "blue.png"})])

    (found,) = store.filter_documents()
    assert (found.id, found.meta["file_path"]) == ("logo", "blue.png")

    swapped = [Document(id="logo", meta={"file_path": "red.png"}), Document(id="other", meta={"file_path": "blue.png"})]
    store.write_documents(swapped)
    assert {each.id: each.meta["file_path"] for each in store.filter_documents()} == {
        "logo": "red.png",
        "other": "blue.png",
    }


def test_overwriting_takes_away_what_the_new_document_does_not_have(store: ClipQdrantDocumentStore) -> None:
    store.write_documents([Document(id="1", content="red", meta={"file_path": "red.png", "year": 2024})])

    store.write_documents([Document(id="1", meta={"file_path": "red.png"})])

    (found,) = store.filter_documents()
    assert found.content is None
    assert "year" not in found.meta


def test_documents_are_deleted_by_any_of_their_ids(store: ClipQdrantDocumentStore) -> None:
    store.write_documents(
        [
            Document(id="image", meta={"file_path": "red.png"}),
            Document(id="text", content="words"),
            Document(id="6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51", content="a text whose id looks like that of a point"),
            Document(id="kept", content="kept"),
        ]
    )

    store.delete_documents(["image", "text", "6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51", "nothing"])

    assert [document.id for document in store.filter_documents()] == ["kept"]


def test_a_collection_that_cannot_be_opened_leaves_its_store_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EdgeClient(tmp_path) as client:
        ImageCollection("images", FakeEmbedder(), client).add([solid_image("red")])
    opened: list[RecordingClient] = []

    def open_client(*args: Any, **options: Any) -> RecordingClient:
        opened.append(RecordingClient(connect(*args, **options)))
        return opened[-1]

    monkeypatch.setattr(document_store, "connect", open_client)
    with pytest.raises(FingerprintMismatch):
        ClipQdrantDocumentStore("images", location=str(tmp_path)).count_documents()

    assert [client.calls[-1] for client in opened] == ["close"]


def test_a_caption_in_the_metadata_is_the_content_or_refused(store: ClipQdrantDocumentStore) -> None:
    with pytest.raises(MetadataError, match="document 1: the content of a document becomes the caption"):
        store.write_documents([Document(id="1", content="words", meta={"caption": "other words"})])
    assert store.count_documents() == 0

    store.write_documents([Document(id="1", meta={"caption": "all red", "file_path": "red.png"})])
    assert [document.content for document in store.filter_documents()] == ["all red"]


def test_an_embedding_that_comes_along_is_taken(store: ClipQdrantDocumentStore) -> None:
    vector = store.images.embedder.embed_texts(["green"])[0]

    store.write_documents([Document(meta={"uri": "s3://bucket/far.png"}, embedding=(3 * vector).tolist())])

    (hit,) = store.images.search("green")
    assert hit.uri == "s3://bucket/far.png"
    assert hit.score == pytest.approx(1)
    (document,) = store.filter_documents()
    store.write_documents([replace(document, content="far away")])  # the vector stays, as the image is out of reach
    assert [(again.caption, again.score) for again in store.images.search("green")] == [("far away", hit.score)]


def test_of_an_image_that_comes_with_its_embedding_the_size_is_kept_too(store: ClipQdrantDocumentStore) -> None:
    vector = store.images.embedder.embed_images([png("red")])[0].tolist()

    store.write_documents(
        [
            Document(id="path", meta={"file_path": "red.png"}, embedding=vector),
            Document(id="bytes", blob=ByteStream(png("red"), mime_type="image/png"), embedding=vector),
            Document(id="gone", meta={"file_path": "gone.png"}, embedding=vector),
        ]
    )

    hits = store.images.search("red")
    sizes = {hit.metadata["haystack_id"]: hit.payload.get("image", {}).get("width") for hit in hits}
    assert sizes == {"path": 24, "bytes": 24, "gone": None}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"field": "meta.file_path", "operator": "==", "value": "red.png"}, {"1"}),
        ({"field": "meta.file_path", "operator": "in", "value": ["red.png", "blue.png"]}, {"1", "2"}),
        ({"field": "id", "operator": "!=", "value": "1"}, {"2", "3"}),
        ({"field": "id", "operator": "in", "value": ["1", "3"]}, {"1", "3"}),
        ({"field": "id", "operator": "not in", "value": ["1", "3"]}, {"2"}),
        ({"field": "content", "operator": "!=", "value": None}, {"1", "3"}),
        ({"field": "meta.tags", "operator": "in", "value": ["sea"]}, {"1"}),
        ({"field": "meta.tags", "operator": "in", "value": []}, set()),
        ({"field": "meta.tags", "operator": "not in", "value": []}, {"1", "2", "3"}),
        ({"field": "year", "operator": "==", "value": 2024}, {"1"}),
        ({"operator": "AND", "conditions": []}, {"1", "2", "3"}),
        ({"operator": "OR", "conditions": []}, set()),
    ],
)
def test_filters_know_ids_paths_and_contents(
    store: ClipQdrantDocumentStore, filters: dict[str, object], found: set[str]
) -> None:
    store.write_documents(
        [
            Document(id="1", content="red", meta={"file_path": "red.png", "year": 2024, "tags": ["sea", "sun"]}),
            Document(id="2", meta={"file_path": "blue.png", "year": 2023}),
            Document(id="3", content="words"),
        ]
    )

    assert {document.id for document in store.filter_documents(filters)} == found
    assert store.count_documents_by_filter(filters) == len(found)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "meta.yaer", "operator": "==", "value": 1}, "did you mean year"),
        ({"field": "meta.year", "operator": "~", "value": 1}, "no operator '~'"),
        ({"field": "content", "operator": "==", "value": "red"}, "caption is a text field and has no ="),
        ({"field": "id", "operator": ">", "value": "1"}, "ids are text"),
        ({"field": 7, "operator": "==", "value": "1"}, "named by text"),
        ({"operator": "XOR", "conditions": []}, "there are AND, OR and NOT"),
        ({"operator": "AND", "conditions": {}}, "must be a list"),
        ({"operator": "AND", "conditions": ["year"]}, "a filter is a dict"),
    ],
)
def test_a_wrong_filter_is_an_error_of_haystack(
    store: ClipQdrantDocumentStore, filters: dict[str, object], message: str
) -> None:
    store.write_documents([Document(content="words", meta={"year": 2024})])

    with pytest.raises(FilterError, match=message):
        store.filter_documents(filters)


def test_all_are_neither_deleted_nor_changed_by_an_empty_filter(store: ClipQdrantDocumentStore) -> None:
    store.write_documents([Document(content="words")])
    for change in (lambda: store.delete_by_filter({}), lambda: store.update_by_filter({}, {"year": 2024})):
        with pytest.raises(FilterError, match="filters is empty"):
            change()
    assert store.count_documents() == 1


@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        (Document(id="x"), ConfigError, "document x has nothing to be found by"),
        (Document(content="cat", meta={"uri": "https://example.org/a.png"}), ConfigError, "nothing is fetched"),
        (Document(id="x", meta={"uri": "a.png"}), ConfigError, "has no scheme"),
        (Document(id="x", content="cat", embedding=[0.0] * 16), ConfigError, "the query vector is zero"),
        (
            Document(id="x", content="cat", embedding=[0.5] * 8),
            ConfigError,
            "8 numbers, and those of this collection have 16",
        ),
        (Document(meta={"file_path": "../outside.png"}), SourceError, "leads out of root_path"),
        (Document(meta={"file_path": "/etc/passwd"}), SourceError, "leads out of root_path"),
        (Document(meta={"uri": "file:///etc/passwd"}), SourceError, "leads out of root_path"),
        (Document(blob=ByteStream(b"no image", mime_type="image/png")), NotAnImage, "image 0"),
        (Document(meta={"file_path": "gone.png"}), SourceError, r"gone\.png"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    store: ClipQdrantDocumentStore, document: Document, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        store.write_documents([document])
    assert store.count_documents() == 0


def test_a_blob_that_is_no_image_leaves_the_text(store: ClipQdrantDocumentStore) -> None:
    store.write_documents([Document(id="page", content="words", blob=ByteStream(b"%PDF", mime_type="application/pdf"))])

    assert [document.id for document in store.filter_documents()] == ["page"]


def test_a_store_is_written_into_a_file_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_KEY", "very secret")
    store = ClipQdrantDocumentStore(
        "photos", location="http://localhost:6333", model="mine.pt", api_key=Secret.from_env_var("STORE_KEY")
    )

    told = store.to_dict()

    assert told["type"] == "haystack_integrations.document_stores.clip_qdrant.document_store.ClipQdrantDocumentStore"
    assert "very secret" not in str(told)
    again = ClipQdrantDocumentStore.from_dict(told)
    assert again.to_dict() == told
    assert again.api_key is not None
    assert again.api_key.resolve_value() == "very secret"


def test_secrets_and_open_collections_do_not_get_into_a_file(store: ClipQdrantDocumentStore) -> None:
    with pytest.raises(SerializationError, match="wraps the open collection 'images'"):
        store.to_dict()
    with pytest.raises(SerializationError, match=r"http://\*\*\*@host:6333 holds a secret"):
        ClipQdrantDocumentStore(location="http://me:word@host:6333").to_dict()
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        ClipQdrantDocumentStore(api_key=Secret.from_token("very secret")).to_dict()
