"""search(text=): images found by the words of their captions, names and metadata, alone or together with a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ClipQdrantError, FilterError, QueryError
from clip_qdrant.records import ImageRecord
from clip_qdrant.uris import point_id

CAPTIONS = {
    "red": "a boat in the harbour",
    "green": "黒い猫が寝ている",
    "blue": "two cats on a boat",
    "yellow": "一只猫在睡觉",
    "white": None,
    "black": "a zebra",
}
TAGS = {"red": ["sea"], "blue": ["pet", "sea"], "white": ["sunset beach"]}


def uri(colour: str) -> str:
    return f"s3://photos/rome/{colour}_IMG_{2040 + len(colour)}.jpg"


@pytest.fixture
def photos(client: QdrantBase) -> ImageCollection:
    collection = ImageCollection("photos", FakeEmbedder(), client)
    collection.add(
        [solid_image(colour) for colour in CAPTIONS],
        uris=[uri(colour) for colour in CAPTIONS],
        captions=list(CAPTIONS.values()),
        metadata=[{"tags": TAGS.get(colour, []), "year": 2020 + len(colour)} for colour in CAPTIONS],
    )
    return collection


def colours(hits: Any) -> list[str]:
    return [hit.uri.split("/")[-1].split("_")[0] for hit in hits]


def test_words_of_chinese_and_japanese_captions_are_found(photos: ImageCollection) -> None:
    assert set(colours(photos.search(text="猫"))) == {"green", "yellow"}
    assert colours(photos.search(text="睡觉")) == ["yellow"]
    assert colours(photos.search(text="黒い猫"))[0] == "green"


@pytest.mark.parametrize("fusion", ["sum", "rrf"])
def test_a_rare_word_lifts_its_image_to_the_top(photos: ImageCollection, fusion: Any) -> None:
    assert colours(photos.search("white"))[0] == "white"
    assert colours(photos.search("white", text="zebra", fusion=fusion))[0] == "black"
    assert set(colours(photos.search("white zebra", text=True, fusion=fusion, limit=2))) == {"black", "white"}


def test_both_lists_are_in_the_result_and_each_hit_tells_of_both(photos: ImageCollection) -> None:
    hits = photos.search("red", text="zebra")

    assert len(hits) == len(CAPTIONS)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)  # type: ignore[type-var]
    best, near = (hits[colours(hits).index(colour)] for colour in ("black", "red"))
    assert near.parts["likeness"] == pytest.approx(photos.search("red", limit=1)[0].score, abs=1e-5)
    assert "words" not in near.parts
    assert best.parts["words"] == pytest.approx(photos.search(text="zebra")[0].score, abs=1e-5)
    assert near.score == pytest.approx(0.48, abs=1e-5)
    assert best.score is not None
    assert 0.52 <= best.score <= 1


def test_names_of_files_folders_and_tags_are_found(photos: ImageCollection) -> None:
    assert set(colours(photos.search(text="IMG_2044", limit=1))) == {"blue"}
    assert len(photos.search(text="rome")) == len(CAPTIONS)
    assert colours(photos.search(text="beaches")) == ["white"]
    assert set(colours(photos.search(text="boats"))) == {"red", "blue"}


def test_fields_are_chosen_and_weighted(photos: ImageCollection) -> None:
    assert not photos.search(text="zebra", text_fields=["tags"])
    assert set(colours(photos.search(text="sea", text_fields=["tags"]))) == {"red", "blue"}
    assert set(colours(photos.search(text="sea", text_fields=["metadata"]))) == {"red", "blue"}
    assert not photos.search(text="sea", text_fields=["caption", "uri"])
    assert colours(photos.search(text="zebra sunset", text_fields={"caption": 9, "tags": 1}))[0] == "black"
    assert colours(photos.search(text="zebra sunset", text_fields={"caption": 0.1, "tags": 1}))[0] == "white"


def test_filters_pages_and_weights_hold_for_both(photos: ImageCollection) -> None:
    assert colours(photos.search("red", text="boat", where="tags = 'pet'")) == ["blue"]
    assert colours(photos.search(text="boat", where="year = 2023")) == ["red"]
    whole = colours(photos.search("red", text="boat"))
    pages = [colours(photos.search("red", text="boat", limit=2, offset=start)) for start in (0, 2, 4, 6)]
    assert [colour for page in pages for colour in page] == whole
    assert colours(photos.search("white", text="zebra", text_weight=0.0))[0] == "white"
    assert colours(photos.search("white", text="zebra", text_weight=1.0))[0] == "black"


def test_a_threshold_of_similarity_keeps_what_has_the_words(photos: ImageCollection) -> None:
    assert colours(photos.search("white", text="zebra", score_threshold=0.9)) == ["black", "white"]


def test_an_image_that_the_query_names_is_not_in_the_result(photos: ImageCollection) -> None:
    assert "black" not in colours(photos.search(Query.id(uri("black")), text="zebra"))


def test_pages_of_both_end_with_the_lists_and_keep_the_order(client: QdrantBase) -> None:
    many = ImageCollection("many", FakeEmbedder(), client)
    angles = np.linspace(0, 1.5, 260)
    vectors = np.zeros((260, 16), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    captions = ["zebra" if number % 9 == 0 else None for number in range(260)]
    many.writer.write([ImageRecord(f"urn:{n}", caption=caption) for n, caption in enumerate(captions)], vectors)
    query = Query.vector([1.0, *[0.0] * 15])

    paged = [hit.id for start in range(0, 280, 70) for hit in many.search(query, text="zebra", limit=70, offset=start)]
    assert paged == [hit.id for hit in many.search(query, text="zebra", limit=260, candidates=200)]
    assert 200 < len(paged) == len(set(paged)) < 260
    assert "best are looked at" in str(many.search(query, text="zebra", offset=250).reason)
    newest = many.search(text="zebra", order_by="-uri", limit=5)
    assert [hit.uri for hit in newest] == ["urn:99", "urn:90", "urn:9", "urn:81", "urn:72"]


def test_vectors_of_words_are_not_told_as_an_index_of_images(photos: ImageCollection) -> None:
    explanation = photos.search("red", text="zebra", explain=True).explanation

    assert explanation is not None
    assert f"vectors: no index, all {len(CAPTIONS)}" in explanation.index


def test_collapsing_shows_what_both_lists_have(photos: ImageCollection) -> None:
    usual = photos.search("white", text="zebra", candidates=2)
    collapsed = photos.search("white", text="zebra", candidates=2, collapse="bytes")

    assert len(usual) > 2
    assert [hit.id for hit in collapsed] == [hit.id for hit in usual]


def test_fewer_candidates_end_the_result_sooner(photos: ImageCollection) -> None:
    options = SearchOptions(text="zebra", candidates=1)
    assert colours(photos.searcher.search("white", where=None, options=options)) == ["black", "white"]


def test_changed_payloads_move_the_ranking_and_keep_the_vectors(photos: ImageCollection) -> None:
    before = photos.search("red")
    photos.writer.write_payloads([ImageRecord(uri("red"), caption="a giraffe"), ImageRecord(uri("black"))])

    assert colours(photos.search(text="giraffe")) == ["red"]
    assert not photos.search(text="zebra")
    assert colours(photos.search(text="boat")) == ["blue"]
    assert not {"red"} & set(colours(photos.search(text="sea", text_fields=["tags"])))
    assert [hit.score for hit in photos.search("red")] == pytest.approx([hit.score for hit in before])


def test_an_image_that_loses_all_its_words_is_found_by_likeness_alone(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    name = "urn:photo:1"
    photos.add([solid_image("red")], uris=[name], captions=["boat"])
    photos.add([solid_image("red")], uris=[name], captions=[""])

    assert not photos.search(text="boat")
    assert photos.search("red", text="boat")[0].uri == name
    photos.add([solid_image("red")], uris=[name], captions=["ship"])
    assert photos.search(text="ship")[0].uri == name


def test_the_vector_of_an_image_stays_the_unnamed_one(client: QdrantBase, photos: ImageCollection) -> None:
    info = client.get_collection("photos").config.params
    assert isinstance(info.vectors, models.VectorParams)
    assert (info.sparse_vectors or {})["text"].modifier == models.Modifier.IDF
    (record,) = client.retrieve("photos", [point_id(uri("red"))], with_vectors=[""])
    dense = record.vector[""] if isinstance(record.vector, dict) else record.vector
    np.testing.assert_allclose(dense, FakeEmbedder().embed_images([solid_image("red")])[0], atol=1e-6)


WRONG: list[tuple[dict[str, Any], type[ClipQdrantError], str]] = [
    ({"text": True}, QueryError, "has no text; give the words"),
    ({"query": Query.image(solid_image("red")), "text": True}, QueryError, "has no text"),
    ({"text": " "}, QueryError, "is empty"),
    ({"text": "!!"}, QueryError, "no word in '!!'"),
    ({"text": 3}, QueryError, "text must be True"),
    ({"text": "x", "text_fields": ["year"]}, FilterError, "'year' is of type integer and has no words"),
    ({"text": "x", "text_fields": ["nothing"]}, FilterError, "no indexed field nothing"),
    ({"text": "x", "text_fields": []}, QueryError, "names of fields"),
    ({"text": "x", "text_fields": 5}, QueryError, "names of fields"),
    ({"text": "x", "text_fields": {"caption": 0}}, QueryError, "above 0"),
    ({"text": "x", "text_fields": {"caption": float("nan")}}, QueryError, "above 0"),
    ({"text": "x", "text_fields": {"caption": 1e39}}, QueryError, "to 1000000.*not 1e"),
    ({"text": "x", "text_fields": {"caption": 1e-60}}, QueryError, "0.000001 to"),
    ({"query": "x", "text": True, "text_weight": 2}, QueryError, "text_weight must be from 0"),
    ({"query": "x", "text": True, "fusion": "max"}, QueryError, "fusion must be one of"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=str)
def test_what_cannot_be_looked_for_is_refused(
    memory_client: QdrantBase, options: dict[str, Any], error: type[ClipQdrantError], words: str
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    photos.add([solid_image("red")], uris=["urn:1"], metadata=[{"year": 1}])
    with pytest.raises(error, match=words):
        photos.search(**options)


def test_a_query_of_a_megabyte_is_answered(photos: ImageCollection) -> None:
    assert colours(photos.search(text="zebra " + "x " * 500_000)) == ["black"]
