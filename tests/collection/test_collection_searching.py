"""search(), get(), count(), facet() and delete()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, solid_image, write_image
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.hits import Facet
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import FilterError, ImageError, QueryError
from clip_qdrant.uris import point_id

YEARS = {"red": 2020, "green": 2021, "blue": 2022, "yellow": 2023, "cyan": 2023}


@pytest.fixture
def photos(client: QdrantBase, tmp_path: Path) -> ImageCollection:
    """Five plain images red.png to cyan.png, with a year and whether their colour is mixed."""
    collection = ImageCollection("photos", FakeEmbedder(), client)
    collection.add(
        [write_image(tmp_path / f"{colour}.png", colour) for colour in YEARS],
        captions=[f"a {colour} card" for colour in YEARS],
        metadata=[
            {"year": year, "mixed": colour in ("yellow", "cyan"), "tags": [colour, "card"], "weight": year / 10}
            for colour, year in YEARS.items()
        ],
    )
    return collection


def colours(hits: Any) -> list[str]:
    return [hit.path.stem for hit in hits]


def test_a_string_is_a_text(photos: ImageCollection, tmp_path: Path) -> None:
    assert colours(photos.search("blue", limit=1)) == ["blue"]
    path = str(tmp_path / "red.png")
    assert photos.search(path)[0].score == pytest.approx(photos.search(Query.text(path))[0].score)


def test_paths_bytes_images_and_arrays_are_images(photos: ImageCollection, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    pixels = np.full((9, 9, 3), COLOURS["red"], np.uint8)
    for query in (path, path.read_bytes(), solid_image("red"), pixels, Query.image(str(path))):
        (hit,) = photos.search(query, limit=1)
        assert (hit.path, hit.score) == (path, pytest.approx(1, abs=1e-3))


def test_a_row_of_floats_is_a_vector(photos: ImageCollection) -> None:
    vector = 5 * photos.embedder.embed_texts(["green"])[0]
    for query in (vector, vector.astype(np.float64), vector.tolist(), Query.vector(vector)):
        assert colours(photos.search(query, limit=1)) == ["green"]


def test_hits_carry_all_that_is_stored_best_first(photos: ImageCollection, tmp_path: Path) -> None:
    hits = photos.search("red")
    assert len(hits) == 5
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    best = hits[0]
    assert (best.id, best.uri) == (point_id(best.uri), (tmp_path / "red.png").as_uri())
    assert (best.caption, best.metadata["year"]) == ("a red card", 2020)
    assert best.payload["image"]["format"] == "PNG"


def test_where_narrows_a_search(photos: ImageCollection) -> None:
    assert colours(photos.search("red", where="year >= 2023")) == ["yellow", "cyan"]
    assert set(colours(photos.search("red", where={"mixed": False}))) == {"red", "green", "blue"}
    condition = models.FieldCondition(key="metadata.year", match=models.MatchValue(value=2022))
    assert colours(photos.search("red", where=models.Filter(must=[condition]))) == ["blue"]


def test_an_offset_continues_where_the_limit_ended(photos: ImageCollection) -> None:
    query = Query.vector([3.0, 2.0, 1.0, *[0.0] * 13])  # as near to no two of the colours
    everything = colours(photos.search(query))
    assert everything == ["yellow", "red", "cyan", "green", "blue"]
    assert [colours(photos.search(query, limit=2, offset=at)) for at in (0, 2, 4)] == [
        everything[:2],
        everything[2:4],
        everything[4:],
    ]


def test_a_threshold_cuts_off_what_is_less_similar(photos: ImageCollection) -> None:
    assert colours(photos.search("red", score_threshold=0.95)) == ["red"]


def test_queries_combine(photos: ImageCollection, tmp_path: Path) -> None:
    assert colours(photos.search(Query.text("red") + Query.text("green"), limit=1)) == ["yellow"]
    query = Query.image(tmp_path / "yellow.png") - Query.text("red") * 0.8
    assert colours(photos.search(query, limit=1)) == ["green"]


def test_a_stored_image_as_a_query_is_left_out_of_the_result(photos: ImageCollection, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    for name in (str(path), path, path.as_uri(), point_id(path.as_uri())):
        hits = photos.search(Query.id(name), where="year <= 2023")
        assert set(colours(hits)) == {"green", "blue", "yellow", "cyan"}
        assert hits[0].path == tmp_path / "yellow.png"


def test_every_stored_image_of_a_query_is_left_out(photos: ImageCollection, tmp_path: Path) -> None:
    query = Query.id(tmp_path / "red.png") + Query.id(tmp_path / "green.png")
    assert colours(photos.search(query)) == ["yellow", "cyan", "blue"]


def test_a_stored_image_that_is_missing_is_named(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match="urn:nowhere"):
        photos.search(Query.id("urn:nowhere"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit.*0"),
        ({"limit": -3}, "limit.*-3"),
        ({"limit": 2.5}, r"limit.*2\.5"),
        ({"limit": True}, "limit.*True"),
        ({"offset": -1}, "offset.*-1"),
        ({"score_threshold": float("nan")}, "score_threshold.*nan"),
        ({"score_threshold": "0.5"}, "score_threshold.*'0.5'"),
        ({"score_threshold": [0.5]}, "score_threshold"),
        ({"score_threshold": 25}, "score_threshold.*cosine similarity.*25"),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value(
    client: QdrantBase, photos: ImageCollection, arguments: dict[str, Any], message: str
) -> None:
    for collection in (photos, ImageCollection("not_there_yet", FakeEmbedder(), client)):
        with pytest.raises(QueryError, match=message):
            collection.search("red", **arguments)
        with pytest.raises(QueryError, match=message):
            collection.search_batch(["red"], options=SearchOptions(**arguments))


@pytest.mark.parametrize("query", ["", "   ", np.zeros(16), np.full(16, np.nan), np.ones(8), np.ones((4, 4)), []])
def test_a_query_without_a_direction_is_refused(photos: ImageCollection, query: Any) -> None:
    with pytest.raises(QueryError):
        photos.search(query)


@pytest.mark.parametrize("query", [b"not an image", np.zeros((3, 3, 7), np.uint8), 7])
def test_a_query_that_is_no_image_is_refused(photos: ImageCollection, query: Any) -> None:
    with pytest.raises(ImageError):
        photos.search(query)


def test_an_unknown_field_is_refused_naming_the_fields_there_are(photos: ImageCollection) -> None:
    with pytest.raises(FilterError, match=r"yaer.*year"):
        photos.search("red", where="yaer = 2020")


def test_get_takes_a_uri_a_path_and_a_point_id(photos: ImageCollection, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    for name in (path, str(path), path.as_uri(), point_id(path.as_uri()), point_id(path.as_uri()).upper()):
        hit = photos.get(name)
        assert hit is not None
        assert (hit.path, hit.score, hit.caption) == (path, None, "a red card")
    assert photos.get(tmp_path / "nothing.png") is None


@pytest.mark.parametrize("name", [5, None, b"a.png", ["a.png"]])
def test_what_cannot_name_an_image_is_refused(photos: ImageCollection, name: Any) -> None:
    for use in (lambda: photos.get(name), lambda: photos.delete(uris=[name])):
        with pytest.raises(QueryError, match="names no stored image"):
            use()


def test_count_is_exact(photos: ImageCollection) -> None:
    assert photos.count() == 5
    assert photos.count("year = 2023") == 2
    assert photos.count({"tags": "card"}) == 5
    assert photos.count("year > 3000") == 0


def test_a_facet_counts_the_values_of_a_field(photos: ImageCollection) -> None:
    assert photos.facet("year")[0] == Facet(2023, 2)
    assert len(photos.facet("year")) == 4
    assert photos.facet("mixed") == [Facet(False, 3), Facet(True, 2)]
    assert photos.facet("tags", limit=1) == [Facet("card", 5)]
    assert photos.facet("image.format") == [Facet("PNG", 5)]
    assert photos.facet("year", where="mixed = true") == [Facet(2023, 2)]


@pytest.mark.parametrize("field", ["weight", "caption", "ingested_at"])
def test_a_facet_of_a_field_of_another_type_is_refused(photos: ImageCollection, field: str) -> None:
    with pytest.raises(FilterError, match=f"{field}.*keyword, integer, bool"):
        photos.facet(field)


def test_a_facet_of_an_unknown_field_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(FilterError, match="decade"):
        photos.facet("decade")


def test_delete_gives_the_number_deleted(photos: ImageCollection) -> None:
    assert photos.delete(where="year = 2023") == 2
    assert photos.count() == 3
    assert photos.delete(where="year = 2023") == 0


def test_delete_takes_uris_paths_and_point_ids(photos: ImageCollection, tmp_path: Path) -> None:
    red, green, blue = (tmp_path / f"{colour}.png" for colour in ("red", "green", "blue"))
    assert photos.delete(uris=[red, green.as_uri(), point_id(blue.as_uri()), blue, tmp_path / "other.png"]) == 3
    assert set(colours(photos.search("red"))) == {"yellow", "cyan"}


def test_delete_with_both_deletes_what_is_in_both(photos: ImageCollection, tmp_path: Path) -> None:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "yellow")]
    assert photos.delete(uris=paths, where="year = 2023") == 1
    assert photos.get(paths[0]) is not None
    assert photos.get(paths[1]) is None


EMPTY = models.Filter()
BLUE = models.FieldCondition(key="metadata.year", match=models.MatchValue(value=2022))
EVERYTHING = [
    *(None, "", "  ", {}, EMPTY, models.Filter(must=[])),
    models.Filter(must=[EMPTY]),
    models.Filter(must=models.Filter(must=[EMPTY, EMPTY])),
    models.Filter(should=[BLUE, EMPTY]),
    models.Filter(must_not=[models.Filter(must_not=[EMPTY, BLUE])]),
    models.Filter(min_should=models.MinShould(conditions=[EMPTY, BLUE], min_count=1)),
]


@pytest.mark.parametrize("where", EVERYTHING)
def test_deleting_everything_by_accident_is_refused(photos: ImageCollection, where: Any) -> None:
    with pytest.raises(QueryError, match="drop"):
        photos.delete(where=where)
    assert photos.count() == 5


@pytest.mark.parametrize(
    ("where", "deleted"),
    [
        (models.Filter(must=[EMPTY, BLUE]), 1),
        (models.Filter(should=[BLUE, models.Filter(must_not=[EMPTY])]), 1),
        (models.Filter(must_not=[BLUE]), 4),
        (models.Filter(must=[EMPTY], must_not=[EMPTY]), 0),
        (models.Filter(min_should=models.MinShould(conditions=[EMPTY, BLUE], min_count=2)), 1),
    ],
)
def test_a_filter_that_leaves_something_out_deletes_what_it_selects(
    photos: ImageCollection, where: models.Filter, deleted: int
) -> None:
    assert photos.delete(where=where) == deleted
    assert photos.count() == 5 - deleted


def test_a_single_uri_for_delete_is_refused_with_the_way_out(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match=r"\['urn:x'\]"):
        photos.delete(uris="urn:x")


def test_deleting_no_uris_deletes_nothing(photos: ImageCollection) -> None:
    assert photos.delete(uris=[]) == 0
    assert photos.count() == 5


def test_a_point_without_our_payload_is_a_hit_all_the_same(photos: ImageCollection) -> None:
    foreign = "00000000-0000-4000-8000-000000000001"
    vector = photos.embedder.embed_texts(["zebra"])[0]
    photos.client.upsert("photos", points=[models.PointStruct(id=foreign, vector=vector.tolist(), payload={"a": 1})])
    hit = photos.search("zebra", limit=1)[0]
    assert (hit.id, hit.uri, hit.caption, hit.metadata, hit.payload) == (foreign, "", None, {}, {"a": 1})
