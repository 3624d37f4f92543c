"""How the result of a search is made up: diverse, collapsed, grouped, in batches, explained, and what hits carry."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, RecordingClient
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.hits import Hits
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.types import Location
from clip_qdrant.records import ImageInfo, ImageRecord

NOON = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
FIRST = Query.vector([1.0, *[0.0] * 15])
# name -> angle to the query, bytes, perceptual hash, seconds after noon, album
IMAGES: dict[str, tuple[float, str, int, float, str | None]] = {
    "beach": (0.10, "a", 0xFFFF0000FFFF0000, 0, "sea"),
    "beach-copy": (0.10, "a", 0xFFFF0000FFFF0000, 0, "copies"),
    "beach-small": (0.13, "b", 0xFFFF0000FFFF0003, 900, "sea"),
    "beach-next": (0.22, "c", 0xFFFF0000FFFF03FF, 1, "sea"),
    "beach-later": (0.70, "d", 0xFFFF0000FFFF03FF, 600, "sea"),
    "forest": (1.20, "e", 0x0123456789ABCDEF, 7200, "land"),
    "plain": (1.70, "f", 0, 7300, "land"),
    "plain-too": (1.80, "g", 0, 7400, None),
}


@pytest.fixture
def photos(client: QdrantBase, collection_name: str) -> ImageCollection:
    collection = ImageCollection(collection_name, FakeEmbedder(), client)
    records, vectors = [], []
    for name, (angle, content, phash, seconds, album) in IMAGES.items():
        records.append(
            ImageRecord(
                f"urn:{name}",
                caption=f"a picture of a {name}",
                metadata={"album": album, "year": 2024} if album else {"year": 2024},
                image=ImageInfo(8, 8, "PNG", 100, content * 64, f"{phash:016x}"),
                taken_at=NOON + timedelta(seconds=seconds),
                location=Location(52.5, 13.4),
            )
        )
        vectors.append([np.cos(angle), np.sin(angle), *[0.0] * 14])
    collection.writer.write(records, np.asarray(vectors, np.float32))
    return collection


def names(hits: Any) -> list[str]:
    return [hit.uri.removeprefix("urn:") for hit in hits]


def test_copies_of_the_same_bytes_are_one_hit_that_knows_the_others(photos: ImageCollection) -> None:
    hits = photos.search(FIRST, collapse="bytes", limit=3)

    assert {names(hits)[0], photos.get(hits[0].copies[0]).uri.removeprefix("urn:")} == {"beach", "beach-copy"}  # type: ignore[union-attr]  # it is there
    assert names(hits)[1:] == ["beach-small", "beach-next"]
    assert [len(hit.copies) for hit in hits] == [1, 0, 0]


def test_a_shot_is_one_hit_whether_re_encoded_or_from_one_burst(photos: ImageCollection) -> None:
    hits = photos.search(FIRST, collapse="shot", limit=10)

    assert names(hits)[1:] == ["beach-later", "forest", "plain", "plain-too"]
    assert len(hits[0].copies) == 3


def test_what_looks_similar_is_one_hit(photos: ImageCollection) -> None:
    hits = photos.search(FIRST, collapse="similar", limit=10)

    assert names(hits)[1:] == ["beach-later", "forest", "plain"]
    assert [len(hit.copies) for hit in hits] == [3, 0, 0, 1]


@pytest.mark.parametrize("level", ["bytes", "shot", "similar"])
def test_pages_of_a_collapsed_result_are_full_and_go_on_where_the_last_ended(
    photos: ImageCollection, level: Any
) -> None:
    everything = names(photos.search(FIRST, collapse=level, limit=8))

    paged = [names(photos.search(FIRST, collapse=level, limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
    assert [len(page) for page in paged[: len(everything) // 2]] == [2] * (len(everything) // 2)
    assert [name for page in paged for name in page] == everything


def test_pages_are_full_however_many_copies_there_are(client: QdrantBase, collection_name: str) -> None:
    photos = ImageCollection(collection_name, FakeEmbedder(), client)
    info = ImageInfo(8, 8, "PNG", 100, "a" * 64, "0123456789abcdef")
    other = ImageInfo(8, 8, "PNG", 100, "b" * 64, "fedcba9876543210")
    records = [ImageRecord(f"urn:{number}", image=info) for number in range(150)]
    records += [ImageRecord(f"urn:{number}", image=other) for number in range(150, 160)]
    angles = np.linspace(0, 0.5, 160)
    vectors = np.zeros((160, 16), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    photos.writer.write(records, vectors)

    assert names(photos.search(FIRST, collapse="bytes", limit=2)) == ["0", "150"]
    assert len(photos.search(FIRST, collapse="bytes", limit=2)[0].copies) == 149


def test_without_diversity_the_most_relevant_come_first_and_with_it_different_ones(photos: ImageCollection) -> None:
    relevant = names(photos.search(FIRST, limit=3))
    assert names(photos.search(FIRST, limit=3, diversity=0)) == relevant
    assert names(photos.search(FIRST, limit=3, diversity=0.05))[0].startswith("beach")

    diverse = names(photos.search(FIRST, limit=2, diversity=0.9))
    assert diverse[0] in ("beach", "beach-copy")
    assert diverse[1] == "plain-too"


def test_a_diverse_result_has_pages_and_candidates(photos: ImageCollection) -> None:
    everything = names(photos.search(FIRST, limit=8, diversity=0.5))

    assert sorted(everything) == sorted(IMAGES)
    paged = [names(photos.search(FIRST, limit=3, offset=offset, diversity=0.5)) for offset in (0, 3, 6)]
    assert [name for page in paged for name in page] == everything
    assert set(names(photos.search(FIRST, limit=3, diversity=1, candidates=3))) <= {
        *("beach", "beach-copy", "beach-small")
    }


def test_a_diverse_result_may_be_collapsed(photos: ImageCollection) -> None:
    assert len(photos.search(FIRST, limit=8, diversity=0.3, collapse="bytes")) == 7


def test_hits_are_grouped_by_a_field(photos: ImageCollection) -> None:
    hits = photos.search(FIRST, group_by="album", group_size=2, limit=2)

    assert {hits.groups[0].value, hits.groups[1].value} == {"sea", "copies"}
    assert [len(group.hits) for group in hits.groups] in ([2, 1], [1, 2])
    assert names(hits) == [name for group in hits.groups for name in names(group.hits)]
    (rest,) = photos.search(FIRST, group_by="album", limit=2, offset=2).groups
    assert (rest.value, names(rest.hits)) == ("land", ["forest", "plain"])


def test_groups_may_be_collapsed(photos: ImageCollection) -> None:
    hits = photos.search(FIRST, where="album = 'sea'", group_by="album", group_size=2, collapse="shot")

    assert names(hits) == ["beach", "beach-later"]
    assert len(hits[0].copies) == 2


def test_a_collapsed_group_is_filled_however_many_copies_come_first(photos: ImageCollection) -> None:
    number = 60
    angles = np.linspace(0.01, 0.05, number)
    vectors = np.stack([np.cos(angles), np.sin(angles), *np.zeros((14, number))], axis=1).astype(np.float32)
    copy = ImageInfo(8, 8, "PNG", 100, "a" * 64, f"{0xFFFF0000FFFF0000:016x}")
    records = [ImageRecord(f"urn:copy:{i}", metadata={"album": "land"}, image=copy) for i in range(number)]
    photos.writer.write(records, vectors)

    hits = photos.search(FIRST, where="album = 'land'", group_by="album", group_size=2, collapse="bytes")

    assert names(hits) == ["copy:0", "forest"]
    assert len(hits[0].copies) == number - 1


@pytest.mark.parametrize("level", ["bytes", "shot", "similar"])
def test_groups_that_are_collapsed_carry_what_is_asked_for(photos: ImageCollection, level: Any) -> None:
    whole = photos.search(FIRST, group_by="album", collapse=level)
    assert whole[0].caption
    for payload in (False, ["year"]):
        hits = photos.search(FIRST, group_by="album", collapse=level, payload=payload, vectors=True)
        assert [(hit.id, hit.copies) for hit in hits] == [(hit.id, hit.copies) for hit in whole]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in whole], abs=1e-6)
        assert [group.value for group in hits.groups] == [group.value for group in whole.groups]
        year = {"metadata": {"year": 2024}} if payload else {}
        assert [hit.payload for hit in hits] == [{"uri": hit.uri, **year} for hit in whole]
        assert all(hit.vector is not None for hit in hits)


def test_an_image_in_several_groups_is_in_each_of_them_once_collapsed(photos: ImageCollection) -> None:
    vectors = np.eye(16, dtype=np.float32)[:1]
    photos.writer.write([ImageRecord("urn:both", metadata={"album": ["land", "sea"]})], vectors)

    groups = photos.search(FIRST, group_by="album", group_size=1, collapse="shot").groups

    assert {group.value: names(group.hits) for group in groups} == {
        "land": ["both"],
        "sea": ["both"],
        "copies": ["beach-copy"],
    }


def test_what_cannot_be_grouped_by_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(FilterError, match=r"group_by='folder'.*the fields are album"):
        photos.search(FIRST, group_by="folder")
    with pytest.raises(
        FilterError, match=r"taken_at\.month is a part of taken_at: images are filtered by it and counted"
    ):
        photos.search(FIRST, group_by="taken_at.month")
    with pytest.raises(QueryError, match=r"taken_at.*datetime.*keyword or integer"):
        photos.search(FIRST, group_by="taken_at")


def test_an_empty_result_says_why(photos: ImageCollection) -> None:
    assert "the filter selects no image" in str(photos.search(FIRST, where="year = 1999").reason)
    assert "none of 8 images has a score of at least 0.9" in str(photos.search("zebra", score_threshold=0.9).reason)
    grouped = photos.search("zebra", score_threshold=0.9, group_by="album")
    assert grouped.reason == "none of 8 images has a score of at least 0.9, and a value of album"
    assert photos.search(FIRST).reason is None


def test_where_only_what_the_query_names_is_left_the_reason_says_so(photos: ImageCollection) -> None:
    alone = photos.search(Query.id("urn:plain-too"), where="album is null")
    assert alone.reason == "the filter selects no image but those that the query names, which are left out"
    everything = photos.recommend([Query.id(f"urn:{name}") for name in IMAGES])
    assert everything.reason == "there is no image but those that the query names, which are left out"
    nothing = photos.search(Query.id("urn:plain-too"), where="year = 1999")
    assert nothing.reason == "the filter selects no image"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"collapse": "bytes", "offset": 7}, "there are no more than 8 images, of which copies are shown once"),
        (
            {"collapse": "bytes", "candidates": 3, "offset": 2},
            "3 best are looked at; larger candidates look at more",
        ),
        ({"diversity": 0.5, "candidates": 3, "offset": 3}, "3 best are looked at; larger candidates look at more"),
        (
            {"order_by": "year", "candidates": 3, "offset": 3},
            "3 best are looked at; larger candidates look at more",
        ),
        ({"text": "beach", "candidates": 1, "offset": 3}, "best are looked at; larger candidates look at more"),
        ({"order_by": "year", "candidates": 6, "offset": 7, "score_threshold": 0.9}, "no more of 8 images match"),
        ({"collapse": "bytes", "candidates": 6, "offset": 7, "score_threshold": 0.9}, "no more of 8 images match"),
        ({"diversity": 0.5, "candidates": 6, "offset": 7, "score_threshold": 0.9}, "no more of 8 images match"),
        ({"text": "forest", "candidates": 6, "offset": 7, "score_threshold": 0.9}, "no more of 8 images match"),
    ],
)
def test_an_offset_beyond_the_end_says_what_ended_it(
    photos: ImageCollection, options: dict[str, Any], why: str
) -> None:
    hits = photos.search(FIRST, **options)

    assert hits == []
    assert str(hits.reason).endswith(why)


def test_an_offset_beyond_the_groups_is_told_in_groups(photos: ImageCollection) -> None:
    for options in ({}, {"collapse": "shot"}):
        hits = photos.search(FIRST, group_by="album", offset=3, **options)  # type: ignore[arg-type]  # of various types
        assert hits.reason == "the offset is 3, and no more groups of album are found than 3"
    far = photos.search(FIRST, group_by="album", offset=20_000)
    assert far.reason == "the offset is 20000, and there are no more than 8 images to group"
    near = photos.search(FIRST, where="album = 'land'", group_by="album", offset=1, score_threshold=0.9)
    assert near.reason == "none of 2 images has a score of at least 0.9, and a value of album"
    alone = photos.search(FIRST, where="album is null", group_by="album", offset=1)
    assert alone.reason == "none of 1 images has a value of album"


def test_a_batch_gives_what_single_searches_give_in_one_call(photos: ImageCollection) -> None:
    recording = RecordingClient(photos.client)
    again = ImageCollection(photos.name, FakeEmbedder(), recording)  # type: ignore[arg-type]  # it has all methods
    queries: list[Any] = ["red", FIRST, Query.text("blue") - 0.5 * FIRST, np.eye(16)[1]]
    options = SearchOptions(limit=3, offset=1)
    recording.calls.clear()

    batch = again.search_batch(queries, where="year = 2024", options=options)

    assert recording.calls == ["query_batch_points"]
    assert again.embedder.text_calls == [2]  # type: ignore[attr-defined]  # a fake one
    single = [photos.search(query, where="year = 2024", limit=3, offset=1) for query in queries]
    assert [names(hits) for hits in batch] == [names(hits) for hits in single]
    assert [hit.score for hits in batch for hit in hits] == pytest.approx(
        [hit.score for hits in single for hit in hits], abs=1e-6
    )


def test_a_batch_takes_every_option(photos: ImageCollection) -> None:
    for options in (SearchOptions(collapse="shot"), SearchOptions(order_by="-taken_at"), SearchOptions(diversity=0.4)):
        keywords = {name: getattr(options, name) for name in ("collapse", "order_by", "diversity")}
        (batch,) = photos.search_batch([FIRST], options=options)
        assert names(batch) == names(photos.search(FIRST, **keywords))
    assert photos.search_batch([]) == []


def test_exact_and_approximate_searches_find_the_same_here(photos: ImageCollection) -> None:
    expected = names(photos.search(FIRST, limit=3))

    for options in ({"exact": True}, {"ef": 64}):
        assert names(photos.search(FIRST, limit=3, **options)) == expected


def test_a_threshold_finds_what_is_exactly_as_similar(photos: ImageCollection) -> None:
    vector = photos.search(FIRST, vectors=True, limit=1)[0].vector
    assert vector is not None

    assert len(photos.search(vector, score_threshold=1.0)) == 2


def test_hits_carry_the_fields_that_are_named(photos: ImageCollection) -> None:
    hit = photos.search(FIRST, payload=["album", "caption", "image.width"], limit=3)[2]
    assert hit.payload == {
        "uri": "urn:beach-small",
        "caption": "a picture of a beach-small",
        "metadata": {"album": "sea"},
        "image": {"width": 8},
    }
    assert photos.search(FIRST, payload=False, limit=3)[2].payload == {"uri": "urn:beach-small"}
    assert photos.search(FIRST, payload=["image.phash", "image.tags.lens", "image.tags.odd name"], limit=3)[
        2
    ].payload == {
        "uri": "urn:beach-small",
        "image": {"phash": "ffff0000ffff0003"},
    }
    for wrong in ("colour", "image.colour", "image.tags.", "image.tags.a..b"):
        with pytest.raises(FilterError, match=rf"payload:.*{wrong}"):
            photos.search(FIRST, payload=[wrong])


def test_hits_carry_their_vector_where_it_is_asked_for(photos: ImageCollection) -> None:
    (hit,) = photos.search(FIRST, where="album = 'copies'", vectors=True)
    assert hit.vector is not None
    np.testing.assert_allclose(hit.vector[:2], [np.cos(0.1), np.sin(0.1)], atol=1e-6)
    assert photos.search(FIRST)[0].vector is None


def test_a_hit_tells_when_and_where_it_was_taken_and_can_be_written_as_json(photos: ImageCollection) -> None:
    (hit,) = photos.search(FIRST, where="album = 'copies'")

    assert hit.taken_at == NOON
    assert hit.taken_at.utcoffset() == timedelta(hours=2)
    assert hit.location == Location(52.5, 13.4)
    assert hit.path is None
    told = hit.to_dict()
    assert (told["uri"], told["path"], told["metadata"]) == ("urn:beach-copy", None, {"album": "copies", "year": 2024})
    assert "copies" not in told


@pytest.mark.parametrize("given", ["2024-05-01", "2024-05-01T10:00:00-05:00", "2024-05-01T10:00:00"])
def test_a_date_comes_back_as_it_was_given(photos: ImageCollection, given: str) -> None:
    photos.writer.write([ImageRecord("urn:dated", metadata={"sent": given})], np.eye(16, dtype=np.float32)[:1])

    (hit,) = photos.search(where="sent = '2024-05-01'")
    assert hit.metadata["sent"] == given


def test_a_search_explains_itself(photos: ImageCollection) -> None:
    query = 2 * FIRST - Query.text("red")
    hits = photos.search(query, where="year = 2024", explain=True)

    explanation = hits.explanation
    assert explanation is not None
    assert explanation.seconds.keys() >= {"embedding", "filter", "store", "hits"}
    assert "metadata.year by" in explanation.index
    assert "ms" in str(explanation)
    for hit in hits:
        assert set(hit.shares) == {"Query.vector(<16 numbers>)", "Query.text('red')"}
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-5)
        assert hit.vector is None
    assert photos.search(query).explanation is None
    for options in ({"collapse": "shot"}, {"order_by": "year"}, {"group_by": "album"}, {"diversity": 0.2}):
        assert photos.search(FIRST, explain=True, **options)[0].shares  # type: ignore[arg-type]  # of various types


def test_a_part_of_the_hits_is_hits_too(photos: ImageCollection) -> None:
    hits = photos.search(FIRST)

    assert isinstance(hits[:2], Hits)
    assert names(hits[:2]) == names(hits)[:2]
    assert hits[0].uri in hits._repr_html_()
    assert hits[-1].uri not in hits[:2]._repr_html_()
    assert "no image" in photos.search(FIRST, where="year = 1")._repr_html_()
