"""ClipVectorStore: images and texts by id, descriptions of images, MMR, filters, relevance, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image, write_image
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ConfigError, FilterError, FingerprintMismatch, MetadataError, QueryError
from clip_qdrant.integrations.langchain import ClipEmbeddings, ClipImageRetriever, ClipVectorStore
from clip_qdrant.integrations.langchain.documents import uris_of
from clip_qdrant.records import ImageRecord
from clip_qdrant.store.edge.client import EdgeClient

COLOURS = ("red", "yellow", "green", "blue")


@pytest.fixture(scope="module")
def found_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipVectorStore]:
    """Four images, which no test changes."""
    folder = tmp_path_factory.mktemp("store")
    with EdgeClient(folder / "store") as client:
        photos = ImageCollection("photos", FakeEmbedder(), client)
        photos.add(
            [write_image(folder / f"{colour}.png", colour) for colour in COLOURS],
            captions=[f"all {colour}" for colour in COLOURS[:3]] + [None],
            metadata=[{"year": 2021 + number, "warm": number < 2} for number in range(4)],
        )
        yield ClipVectorStore(photos)


@pytest.fixture
def store() -> Iterator[ClipVectorStore]:
    client = QdrantClient(":memory:")
    yield ClipVectorStore(ImageCollection("photos", FakeEmbedder(), client))
    client.close()


def names(documents: list[Document]) -> list[str]:
    return [Path(str(document.id)).stem for document in documents]


def test_an_image_is_a_document_of_its_caption_its_metadata_and_its_uri(found_store: ClipVectorStore) -> None:
    (document, score), *_ = found_store.similarity_search_with_score("red", k=2)

    hit = found_store.images.search("red", limit=1)[0]
    assert document == Document(id=hit.uri, page_content="all red", metadata={"year": 2021, "warm": True})
    assert score == hit.score
    assert found_store.get_by_ids([hit.uri, "gone"]) == [document]


def test_an_image_without_a_caption_has_no_content(found_store: ClipVectorStore) -> None:
    assert [document.page_content for document in found_store.similarity_search("blue", k=1)] == [""]


@pytest.mark.parametrize(
    "filter",
    [
        "warm = true and year > 2021",
        {"warm": True, "year": {">": 2021}},
        models.Filter(must=[models.FieldCondition(key="metadata.year", match=models.MatchValue(value=2022))]),
    ],
)
def test_a_filter_is_text_a_dict_or_a_filter_of_qdrant(found_store: ClipVectorStore, filter: object) -> None:
    assert names(found_store.similarity_search("red", k=4, filter=filter)) == ["yellow"]  # type: ignore[arg-type]


def test_a_retriever_of_the_store_hands_filters_on(found_store: ClipVectorStore) -> None:
    retriever = found_store.as_retriever(search_kwargs={"k": 1, "filter": "year = 2023"})

    assert names(retriever.invoke("red")) == ["green"]
    assert retriever.tags == ["ClipVectorStore", "ClipEmbeddings"]


def test_a_field_that_is_not_there_is_an_error_of_ours_that_names_those_there_are(
    found_store: ClipVectorStore,
) -> None:
    with pytest.raises(FilterError, match=r"there is no indexed field colour.*warm, year"):
        found_store.similarity_search("red", filter="colour = 'red'")


def test_an_option_that_is_not_known_is_refused(found_store: ClipVectorStore) -> None:
    with pytest.raises(TypeError, match="where"):
        found_store.as_retriever(search_kwargs={"where": "year = 2023"}).invoke("red")


def test_what_to_look_for_may_be_an_image_a_query_or_a_vector(found_store: ClipVectorStore) -> None:
    vector = found_store.embeddings.embed_image(solid_image("green"))

    assert names(found_store.similarity_search(solid_image("green"), k=1)) == ["green"]
    assert names(found_store.similarity_search(Query.text("red") - Query.text("yellow"), k=4))[0] == "red"
    assert names(found_store.similarity_search_by_vector(vector, k=1)) == ["green"]


@pytest.mark.parametrize("lambda_mult", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_mmr_chooses_as_langchain_does(store: ClipVectorStore, lambda_mult: float) -> None:
    random = np.random.default_rng(7)
    colours = [tuple(random.integers(0, 256, 3).tolist()) for _ in range(30)]
    store.images.add([solid_image(colour) for colour in colours])
    hits = store.images.search("red", limit=20, vectors=True)
    vectors = [hit.vector.tolist() for hit in hits if hit.vector is not None]
    query = np.array(store.embeddings.embed_query("red"))

    chosen = store.max_marginal_relevance_search("red", k=6, fetch_k=20, lambda_mult=lambda_mult)

    theirs = maximal_marginal_relevance(query, vectors, lambda_mult, k=6)
    assert [document.id for document in chosen] == [hits[number].uri for number in theirs]
    by_vector = store.max_marginal_relevance_search_by_vector(query.tolist(), k=6, lambda_mult=lambda_mult)
    assert by_vector == chosen


def test_a_search_without_a_query_is_refused(found_store: ClipVectorStore) -> None:
    with pytest.raises(QueryError, match="not with None"):
        found_store.similarity_search(None)  # type: ignore[arg-type]


def test_a_lambda_that_is_none_is_refused_by_its_name(found_store: ClipVectorStore) -> None:
    with pytest.raises(QueryError, match="lambda_mult is from 0"):
        found_store.max_marginal_relevance_search("red", lambda_mult=1.5)


def test_relevance_is_that_of_the_calibration_or_else_the_cosine_from_0_to_1(found_store: ClipVectorStore) -> None:
    cosines = found_store.similarity_search_with_score("red", k=2)
    bare = found_store.similarity_search_with_relevance_scores("red", k=2)
    assert [score for _, score in bare] == pytest.approx([(1 + score) / 2 for _, score in cosines])

    embedder = FakeEmbedder()
    embedder.calibration = Calibration(LEVELS, LEVELS, 0.98)  # type: ignore[attr-defined]  # an embedder may have one
    store = ClipVectorStore(ImageCollection("photos", embedder, found_store.images.client))
    hits = store.images.search("red", limit=2)
    measured = store.similarity_search_with_relevance_scores("red", k=2)
    assert [score for _, score in measured] == [hit.relevance for hit in hits]
    least = float(hits[0].relevance or 0)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": least, "k": 4}
    )
    assert names(retriever.invoke("red")) == ["red"]


def test_words_have_no_relevance(found_store: ClipVectorStore) -> None:
    with pytest.raises(QueryError, match="text ranks by words"):
        found_store.similarity_search_with_relevance_scores("red", options=SearchOptions(text=True))


def test_a_text_is_found_with_its_id_and_its_metadata_and_has_no_image(store: ClipVectorStore) -> None:
    taken = datetime(2024, 5, 1, 12, tzinfo=UTC)
    metadata = {"year": 2024, "tags": ["a", "b"], "taken_at": taken, "location": {"lat": 1.5, "lon": 2.5}}
    store.add_texts(["a tall tree"], [metadata], ids=["tree/1 ä"])

    document = store.similarity_search("tree", k=1)[0]

    assert document == Document(
        id="tree/1 ä", page_content="a tall tree", metadata={**metadata, "taken_at": taken.isoformat()}
    )
    assert store.images.search("tree")[0].path is None
    assert store.similarity_search("tree", filter="image.sha256 exists") == []


@pytest.mark.parametrize(
    "id",
    ["1", "", "cat.jpg", "/photos/cat.jpg", "urn:text:1", "urn:isbn:1", "HTTP://A/b", "https://me:pw@a/b", "ä b%20"],
)
def test_every_id_comes_back_and_names_its_text_alone(store: ClipVectorStore, id: str) -> None:
    store.add_texts(["one", "other"], ids=[id, id + "x"])

    assert [document.id for document in store.get_by_ids([id])] == [id]
    assert store.delete([id]) is True
    assert [document.id for document in store.similarity_search("one")] == [id + "x"]


def test_ids_that_differ_name_different_texts() -> None:
    ids = ["1", "urn:text:1", "urn:text:urn%3Atext%3A1", "%31", "file:///1", "FILE:///1"]

    assert len({uris_of(id)[-1] for id in ids}) == len(ids)


def test_a_text_whose_id_is_a_uri_is_told_from_an_image_at_it(store: ClipVectorStore) -> None:
    page = "https://example.org/red.png"
    store.add_texts(["red", "red"], [{"year": 1}, {}], ids=[page, "1"])
    assert ClipImageRetriever(images=store.images).invoke("red") == []

    store.images.add([solid_image("red")], uris=[page], captions=["an image"])
    assert [document.page_content for document in store.get_by_ids([page])] == ["an image"]
    store.add_texts(["described"], ids=[page])
    assert [document.page_content for document in ClipImageRetriever(images=store.images).invoke("red")] == [
        "described"
    ]
    store.delete([page])
    assert [document.id for document in store.similarity_search("red")] == ["1"]


def test_a_document_of_a_stored_image_changes_caption_and_metadata_and_keeps_its_vector(
    store: ClipVectorStore,
) -> None:
    store.images.add([solid_image("red")], captions=["?"], metadata=[{"year": 2020, "album": "old"}])
    before = store.images.search("red", limit=1, vectors=True)[0]

    document = store.similarity_search("red", k=1)[0]
    document.page_content = "a blue whale"
    document.metadata = {"year": 2021, "place": "sea"}
    assert store.add_documents([document]) == [before.uri]

    after = store.images.search("red", limit=1, vectors=True)[0]
    assert (after.caption, after.metadata) == ("a blue whale", {"year": 2021, "place": "sea"})
    assert after.vector is not None
    assert before.vector is not None
    assert after.vector.tolist() == before.vector.tolist()
    assert len(store.images) == 1
    assert after.payload["edits"] == {"year": 2021, "album": None, "place": "sea", "caption": "a blue whale"}


def test_a_document_that_says_nothing_new_of_an_image_writes_nothing(store: ClipVectorStore) -> None:
    store.images.add([solid_image("red")], captions=["red"], metadata=[{"year": 2020}])
    found = store.similarity_search("red", k=1)
    before = store.images.search("red")[0].payload

    store.add_documents(found)

    assert store.images.search("red")[0].payload == before


def test_an_image_that_is_stored_as_a_vector_is_found_described_and_keeps_its_vector(store: ClipVectorStore) -> None:
    photos = store.images
    photos.writer.write([ImageRecord("s3://b/red.png")], photos.embedder.embed_images([solid_image("red")]))
    store.add_texts(["red"], ids=["1"])
    before = photos.search("red", where="uri = 's3://b/red.png'", vectors=True)[0].vector

    (document,) = ClipImageRetriever(images=photos).invoke("red")
    document.page_content, document.metadata["year"] = "a red wall", 2024
    store.add_documents([document])

    (after,) = photos.search("red", where="uri = 's3://b/red.png'", vectors=True)
    assert (after.caption, after.metadata) == ("a red wall", {"year": 2024})
    assert before is not None
    assert after.vector is not None
    assert after.vector.tolist() == before.tolist()
    assert len(photos) == 2


def test_a_field_that_does_not_fit_keeps_out_all_documents_of_a_call(store: ClipVectorStore) -> None:
    store.images.add([solid_image("red")], metadata=[{"year": 2020}])
    uri = store.images.search("red")[0].uri

    with pytest.raises(MetadataError, match="year"):
        store.add_texts(["red", "a text"], [{"year": 2021}, {"year": "last"}], ids=[uri, "1"])

    assert [document.metadata for document in store.similarity_search("red")] == [{"year": 2020}]


def test_a_caption_in_the_metadata_is_refused_as_it_would_be_lost(store: ClipVectorStore) -> None:
    with pytest.raises(MetadataError, match="content of a document becomes the caption"):
        store.add_texts(["a tree"], [{"caption": "something else"}])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"texts": ["a", "b"], "ids": ["1"]}, "2 texts and 1 ids"),
        ({"texts": ["a"], "metadatas": [{}, {}]}, "1 texts and 2 metadatas"),
        ({"texts": "a"}, "texts takes a list"),
        ({"texts": ["a"], "batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"texts": ["a"], "ids": [7]}, "the id of a Document is text, not 7"),
    ],
)
def test_what_does_not_go_together_is_refused(store: ClipVectorStore, arguments: dict, what: str) -> None:  # type: ignore[type-arg]
    with pytest.raises((ConfigError, QueryError), match=what):
        store.add_texts(**arguments)
    assert not store.images.exists()


def test_deleting_takes_ids_a_filter_or_both_but_not_neither(store: ClipVectorStore) -> None:
    store.add_texts(["a", "b", "c", "d"], [{"year": year} for year in (1, 1, 2, 2)], ids=["a", "b", "c", "d"])

    store.delete(["a", "c"], filter="year = 1")
    assert len(store.get_by_ids(["a", "b", "c", "d"])) == 3
    store.delete(filter="year = 2")
    assert [document.id for document in store.get_by_ids(["a", "b", "c", "d"])] == ["b"]
    store.delete([])
    with pytest.raises(QueryError, match=r"images\.drop\(\) deletes the whole collection"):
        store.delete()
    assert len(store.images) == 1


def test_a_store_is_made_of_texts_in_a_collection_of_their_own(memory_client: QdrantBase) -> None:
    embeddings = ClipEmbeddings(FakeEmbedder())

    store = ClipVectorStore.from_documents(
        [Document("a tree", id="1"), Document("a house", metadata={"year": 2020})],
        embeddings,
        client=memory_client,
        collection_name="texts",
    )

    assert store.similarity_search("tree", k=1) == [Document("a tree", id="1")]
    assert store.images.name == "texts"
    with pytest.raises(ConfigError, match="give a ClipEmbeddings, not a DeterministicFakeEmbedding"):
        ClipVectorStore.from_texts(
            ["a"], DeterministicFakeEmbedding(size=6), client=memory_client, collection_name="others"
        )


def test_the_indexing_of_langchain_adds_what_is_new_and_deletes_what_is_gone(store: ClipVectorStore) -> None:
    records = InMemoryRecordManager("texts")
    records.create_schema()

    def index_texts(*texts: str) -> dict[str, int]:
        documents = [Document(text, metadata={"source": "book"}) for text in texts]
        done = index(
            documents, records, store, cleanup="full", source_id_key="source", batch_size=2, key_encoder="sha256"
        )
        return {name: number for name, number in done.items() if number}

    assert index_texts("one", "two", "three") == {"num_added": 3}
    assert index_texts("one", "three", "four") == {"num_added": 1, "num_skipped": 2, "num_deleted": 1}
    assert {document.page_content for document in store.similarity_search("one")} == {"one", "three", "four"}


def test_texts_are_embedded_and_written_in_batches(store: ClipVectorStore) -> None:
    store.add_texts([f"text {number}" for number in range(5)], batch_size=2)

    assert store.images.embedder.text_calls == [2, 2, 1]  # type: ignore[attr-defined]  # a FakeEmbedder
    assert len(store.images) == 5


def test_a_collection_that_is_not_there_finds_nothing_and_one_of_another_model_is_refused(
    store: ClipVectorStore,
) -> None:
    assert store.similarity_search("red") == []
    assert store.similarity_search_with_relevance_scores("red") == []
    assert store.max_marginal_relevance_search("red") == []
    assert store.get_by_ids(["1"]) == []
    assert store.delete(["1"]) is True
    assert not store.images.exists()

    store.add_texts(["a"])
    with pytest.raises(FingerprintMismatch):
        ClipVectorStore(ImageCollection("photos", FakeEmbedder(name="other"), store.images.client))


def test_several_threads_add_and_search_at_once(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store") as client:
        store = ClipVectorStore(ImageCollection("texts", FakeEmbedder(), client))

        def use(number: int) -> list[str]:
            store.add_texts(["a text"], [{"number": number}], ids=[str(number)])
            return [str(document.id) for document in store.similarity_search("text", filter={"number": number})]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(use, range(24))) == [[str(number)] for number in range(24)]
        assert len(store.images) == 24


@pytest.mark.asyncio
async def test_async_methods_do_what_their_twins_do(found_store: ClipVectorStore) -> None:
    store, options = found_store, SearchOptions(exact=True)

    assert await store.asimilarity_search("red", k=2, options=options) == store.similarity_search("red", k=2)
    assert await store.asimilarity_search_with_score("red") == store.similarity_search_with_score("red")
    relevant = await store.asimilarity_search_with_relevance_scores("red", filter="year = 2023")
    assert relevant == store.similarity_search_with_relevance_scores("red", filter="year = 2023")
    diverse = await store.amax_marginal_relevance_search("red", k=2, lambda_mult=0.1)
    assert diverse == store.max_marginal_relevance_search("red", k=2, lambda_mult=0.1)
    vector = await store.embeddings.aembed_image(solid_image("red"))
    assert await store.asimilarity_search_by_vector(vector, k=1) == store.similarity_search("red", k=1)
    with pytest.raises(FilterError):
        await store.asimilarity_search("red", filter="colour = 'red'")
