"""find_images: images without the texts beside them, page by page, and how often the store is asked for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes import FakeEmbedder, RecordingClient, solid_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError
from clip_qdrant.integrations.find_images import find_images, limit_to
from clip_qdrant.integrations.payloads import text_id, text_uri
from clip_qdrant.records import ImageRecord

COLOURS = ("red", "yellow", "green", "blue")


@pytest.fixture
def photos(memory_client: QdrantBase) -> ImageCollection:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    photos.add([solid_image(colour) for colour in COLOURS], captions=COLOURS)
    return photos


def add_texts(photos: ImageCollection, *texts: str) -> None:
    photos.writer.write(
        [ImageRecord(text_uri(text), caption=text) for text in texts], photos.embedder.embed_texts(texts)
    )


def captions(photos: ImageCollection, query: str | None = "red", **options: int) -> Sequence[str | None]:
    return [hit.caption for hit in find_images(photos, query, where=None, options=SearchOptions(**options))]  # type: ignore[arg-type]


def test_pages_hold_each_image_once_wherever_texts_lie_among_them(photos: ImageCollection) -> None:
    alone = captions(photos)
    add_texts(photos, "yellow", "green yellow")

    pages = [captions(photos, limit=1, offset=offset) for offset in reversed(range(5))]
    assert [caption for page in reversed(pages) for caption in page] == alone
    assert sorted(filter(None, captions(photos, None))) == sorted(COLOURS)


def test_an_image_that_is_stored_as_a_vector_alone_is_an_image(photos: ImageCollection) -> None:
    vectors = photos.embedder.embed_images([solid_image("red")])
    photos.writer.write([ImageRecord("s3://bucket/red.png", caption="elsewhere")], vectors)
    add_texts(photos, "red")

    assert set(captions(photos, limit=2)) == {"red", "elsewhere"}
    assert len(captions(photos)) == 5


def test_the_store_is_asked_a_second_time_once_at_most(photos: ImageCollection) -> None:
    client = RecordingClient(photos.client)
    watched = ImageCollection("photos", photos.embedder, client)

    def count_searches() -> int:
        client.calls.clear()
        captions(watched)
        return client.calls.count("query_batch_points")

    assert count_searches() == 1
    add_texts(photos, "red")
    assert [count_searches(), count_searches()] == [2, 1]


def test_options_that_are_none_are_refused_by_their_type() -> None:
    assert limit_to(3, None) == limit_to(3, SearchOptions()) == SearchOptions(limit=3)
    with pytest.raises(QueryError, match="options takes a SearchOptions"):
        limit_to(3, {"exact": True})  # type: ignore[arg-type]


@pytest.mark.parametrize("id", ["1", "", "ä b%20", "urn:text:1", "https://a/b?c#d", "子猫/1"])
def test_the_id_of_a_text_is_told_by_its_uri(id: str) -> None:
    assert text_id(text_uri(id)) == id
    assert text_id("file:///photos/1.jpg") is None
