"""Listing without a query, in the order of a field, page by page; and what matches a query in that order."""

from __future__ import annotations

import random
import uuid
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.records import ImageRecord

DAYS = ["2024-03-01T12:00:00+02:00", "2023-12-31T23:30:00-05:00", "2024-01-01T02:00:00+01:00", None, "2024-03-01"]


@pytest.fixture
def photos(client: QdrantBase, collection_name: str) -> ImageCollection:
    """Forty images: three in four have a year (of five), some a weight, a name and a date."""
    collection = ImageCollection(collection_name, FakeEmbedder(), client)
    chosen = random.Random(3)
    records, vectors = [], []
    for number in range(40):
        metadata: dict[str, Any] = {"number": number, "name": chosen.choice(["Zoe", "adam", "Bea"])}
        if number % 4:
            metadata["year"] = 2020 + number % 5
        if number % 3:
            metadata["weight"] = (number % 7) / 10
        if (day := DAYS[number % 5]) is not None:
            metadata["sent"] = day
        records.append(ImageRecord(f"urn:image:{number}", metadata=metadata))
        angle = number / 40
        vectors.append([np.cos(angle), np.sin(angle), *[0.0] * 14])
    collection.writer.write(records, np.asarray(vectors, np.float32))
    return collection


def pages(photos: ImageCollection, size: int, **options: Any) -> list[str]:
    ids: list[str] = []
    for offset in range(0, 60, size):
        ids += [hit.id for hit in photos.search(limit=size, offset=offset, **options)]
    return ids


def numbers(hits: Any) -> list[int]:
    return [hit.metadata["number"] for hit in hits]


def test_without_a_query_everything_is_listed_page_by_page(photos: ImageCollection) -> None:
    ids = pages(photos, 7)

    assert ids == sorted(ids, key=uuid.UUID)
    assert len(set(ids)) == len(ids) == 40
    assert {hit.score for hit in photos.search()} == {None}


def test_where_narrows_a_listing(photos: ImageCollection) -> None:
    assert {hit.metadata["year"] for hit in photos.search(where="year = 2022", limit=40)} == {2022}


@pytest.mark.parametrize("field", ["year", "weight", "number", "sent", "name"])
@pytest.mark.parametrize("direction", ["{}", "-{}", "{} asc", "{} DESC"])
def test_a_field_orders_a_listing_and_images_without_it_come_last(
    photos: ImageCollection, field: str, direction: str
) -> None:
    everything = {hit.id: hit for hit in photos.search(limit=40)}
    down = direction in ("-{}", "{} DESC")

    def key(one: str) -> Any:
        value = everything[one].metadata.get(field)
        value = value[:19] if field == "sent" and value else value  # by the clock of the place
        return (value.casefold(), value) if field == "name" else value

    some = [one for one in everything if key(one) is not None]
    expected = sorted(some, key=key, reverse=down) + [one for one in everything if key(one) is None]

    assert pages(photos, 6, order_by=direction.format(field)) == expected
    assert pages(photos, 17, order_by=direction.format(field)) == expected


def test_an_ordered_listing_may_be_narrowed(photos: ImageCollection) -> None:
    hits = photos.search(where="year >= 2022", order_by="-number", limit=4)

    assert numbers(hits) == [39, 38, 37, 34]


def test_an_image_with_several_values_is_listed_once_at_its_first(photos: ImageCollection) -> None:
    several = ImageRecord("urn:image:several", metadata={"number": [41, -1], "year": 2030})
    photos.writer.write([several], np.eye(16, dtype=np.float32)[:1])

    assert photos.search(order_by="number", limit=41)[0].uri == several.uri
    assert photos.search(order_by="-number", limit=1)[0].uri == several.uri
    assert len(set(pages(photos, 9, order_by="number"))) == 41


def test_what_matches_a_query_is_put_in_order(photos: ImageCollection) -> None:
    query = Query.vector([1.0, *[0.0] * 15])  # the nearest are those of the lowest numbers

    assert numbers(photos.search(query, candidates=6, order_by="-number")) == [5, 4, 3, 2, 1, 0]
    assert numbers(photos.search(query, candidates=6, order_by="number", limit=2, offset=2)) == [2, 3]
    matching = photos.search(query, score_threshold=0.999, order_by="-number")
    assert numbers(matching) == [1, 0]
    assert [hit.score for hit in matching] == pytest.approx([np.cos(1 / 40), 1], abs=1e-4)


def test_pages_of_what_matches_in_order_neither_repeat_nor_miss_an_image(photos: ImageCollection) -> None:
    more = [ImageRecord(f"urn:more:{number}", metadata={"number": 100 + number % 5}) for number in range(120)]
    angles = np.linspace(1, 1.5, 120)
    vectors = np.zeros((120, 16), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    photos.writer.write(more, vectors)
    query = Query.vector([1.0, *[0.0] * 15])

    for options in ({"order_by": "-number"}, {"diversity": 0.5}, {"order_by": "number", "collapse": "shot"}):
        paged = [hit.id for start in range(0, 126, 9) for hit in photos.search(query, limit=9, offset=start, **options)]
        assert paged == [hit.id for hit in photos.search(query, limit=100, **options)]
        beyond = photos.search(query, offset=100, **options)
        assert beyond == []
        assert "no more than the 100 best are looked at" in str(beyond.reason)


@pytest.mark.parametrize("descending", [False, True])
def test_integers_beyond_what_floats_tell_apart_are_listed_in_order(photos: ImageCollection, descending: bool) -> None:
    numbers = [2**62 + number % 5 for number in range(20)] + [2**53, 2**53 + 1, -(2**60), 7]
    records = [ImageRecord(f"urn:big:{i}", metadata={"serial": number}) for i, number in enumerate(numbers)]
    photos.writer.write(records, np.tile(np.eye(16, dtype=np.float32)[:1], (len(records), 1)))

    hits = [
        hit
        for start in range(0, len(numbers), 3)
        for hit in photos.search(
            where="serial exists", order_by=f"serial {'desc' if descending else 'asc'}", limit=3, offset=start
        )
    ]

    assert [hit.metadata["serial"] for hit in hits] == sorted(numbers, reverse=descending)
    assert len({hit.id for hit in hits}) == len(numbers)


def test_an_offset_beyond_what_matches_says_so(photos: ImageCollection) -> None:
    hits = photos.search(Query.vector([1.0, *[0.0] * 15]), score_threshold=0.9, offset=39)

    assert hits.reason == "the offset is 39, and no more of 40 images match"


def test_an_offset_beyond_the_last_image_finds_nothing_and_says_so(photos: ImageCollection) -> None:
    for offset in (40, 10**9):
        hits = photos.search(offset=offset)
        assert hits == []
        assert "40 images" in str(hits.reason)
        assert photos.search([1.0, *[0.0] * 15], offset=offset) == []


def test_what_has_no_order_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(FilterError, match=r"order_by='yaer'.*did you mean year"):
        photos.search(order_by="yaer")
    with pytest.raises(QueryError, match="places have no order"):
        photos.search(order_by="location desc")
    with pytest.raises(FilterError, match=r"order_by='-taken_at\.month': taken_at\.month is a part of taken_at"):
        photos.search(order_by="-taken_at.month")


@pytest.mark.parametrize("options", [{"collapse": "bytes"}, {"diversity": 0.5}, {"score_threshold": 0.5}])
def test_what_compares_images_wants_a_query(photos: ImageCollection, options: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="give a query"):
        photos.search(**options)
