"""What a Qdrant server refuses in strict mode is done in the ways that it allows, or said with the limit in the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, MadeSource, solid_image
from program import program_in
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.strict_mode import NECESSARY_INDEXES
from clip_qdrant.errors import FilterError, TooFewIndexes
from clip_qdrant.fields.schema import Schema
from clip_qdrant.store.connect import connect
from clip_qdrant_ingestion import ingest

ALL = len(Schema().indexes())


@contextmanager
def serving(folder: Path, **strict: Any) -> Iterator[tuple[EdgeServer, QdrantBase]]:
    """A server whose collections are made with this strict mode."""
    with EdgeServer(folder / "server", strict={"enabled": True, **strict} if strict else {}) as server:
        client = connect(server.url)
        yield server, client
        client.close()


def images(client: QdrantBase, **options: Any) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), client, **options)


def indexes(client: QdrantBase) -> set[str]:
    return set(client.get_collection("photos").payload_schema)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    """A server without limits; a test sets those of its collection."""
    with EdgeServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: EdgeServer) -> Iterator[QdrantBase]:
    client = connect(server.url)
    yield client
    client.delete_collection("photos")
    client.close()


def limit(client: QdrantBase, **strict: Any) -> None:
    client.update_collection("photos", strict_mode_config=models.StrictModeConfig(enabled=True, **strict))


def test_where_exact_counts_are_refused_they_are_said_to_be_about(
    server: EdgeServer, client: QdrantBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = images(client)
    ingest(MadeSource(10), opened)
    assert opened.counts_exactly
    limit(client, search_allow_exact=False)

    assert opened.count() == 10  # though it was opened before
    assert not opened.counts_exactly
    assert opened.facet("image.format")[0].count == 10
    report = ingest(MadeSource(9), images(client), delete=True, max_delete=0.5)
    assert (report.deleted, report.refused) == (1, None)
    assert opened.delete(where="image.format = 'PNG'") == 9
    ingest(MadeSource(3), images(client))
    with program_in(tmp_path / "work", monkeypatch) as program:
        options = ("--location", server.url)
        table = program("facet", "image.format", "--collection", "photos", *options)
        document = program("facet", "image.format", "--collection", "photos", "--json", *options).json
        info = program("info", *options)
        dropped = program("drop", "photos", "--yes", *options)
    assert "about" in table.out
    assert document["exact"] is False
    assert "about 3" in info.out
    assert "about 3 images is deleted" in dropped.out


def test_what_one_call_may_give_is_asked_for_in_pages(client: QdrantBase) -> None:
    opened = images(client)
    ingest(MadeSource(30), opened)
    everything = [hit.uri for hit in opened.search("red", limit=25, offset=2)]
    limit(client, max_query_limit=7)

    for collection in (opened, images(client)):
        assert [hit.uri for hit in collection.search("red", limit=25, offset=2)] == everything
        assert len(collection.search("red", limit=100)) == 30
        assert len(list(collection.writer.scan())) == 30
    report = ingest(MadeSource(28), images(client), delete=True, max_delete=0.5)
    assert (report.skipped, report.deleted) == (28, 2)


def test_where_fewer_indexes_are_allowed_the_necessary_and_the_chosen_ones_are_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strict = {"max_payload_index_count": 8, "unindexed_filtering_retrieve": False}
    with serving(tmp_path, **strict) as (_, client), caplog.at_level(logging.WARNING):
        chosen = images(client, indexes=["taken_at", "caption"])
        report = ingest(MadeSource(5), chosen, dedupe="tag")
        assert (report.added, report.quarantined) == (5, ())
        taken_at = {"taken_at", "local_time.taken_at", "calendar.taken_at"}
        assert indexes(client) == {*NECESSARY_INDEXES, *taken_at, "words.caption"}
        assert f"{ALL} are needed, and the server allows 8 (strict mode, max_payload_index_count)" in caplog.text

        assert len(chosen.search("red", where="taken_at is null", limit=9)) == 5
        assert chosen.count("caption is null") == 5
        with pytest.raises(FilterError, match=r"'image.width' has no payload index.*strict mode.*info"):
            chosen.search("red", where="image.width > 1")
        assert "lacks payload indexes, so that no filter may name them" in caplog.messages[-1]
        report = ingest(MadeSource(4), images(client), delete=True, max_delete=0.5)
        assert (report.skipped, report.deleted) == (4, 1)


def test_too_few_indexes_for_ingestion_itself_are_an_error_with_the_numbers(tmp_path: Path) -> None:
    with serving(tmp_path, max_payload_index_count=3) as (_, client):
        for _ in range(2):
            with pytest.raises(TooFewIndexes, match=rf"allows 3 payload indexes .*{ALL} are needed .*, 4 at least"):
                ingest(MadeSource(2), images(client))
        limit(client, max_payload_index_count=100)
        assert ingest(MadeSource(2), images(client)).added == 2
        assert len(indexes(client)) == ALL


def test_an_index_that_somebody_dropped_is_told_and_made_again_by_the_next_run(
    server: EdgeServer, client: QdrantBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MadeSource(3)
    ingest(source, images(client))
    client.delete_payload_index("photos", "image.width")
    client.delete_payload_index("photos", "local_time.taken_at")
    with program_in(tmp_path / "work", monkeypatch) as program:
        [told] = program("info", "--location", server.url, "--json").json["store"]["collections"][0]["notes"]
        searched = program("search", "red", "--collection", "photos", "--location", server.url)
    assert "lacks payload indexes" in told
    assert {"image.width", "local_time.taken_at"} == {
        key.strip() for key in told.split(": ")[1].split(";")[0].split(",")
    }
    assert "the next ingest makes them" in searched.err

    assert ingest(source, images(client)).skipped == 3  # nothing else is to be done
    assert len(indexes(client)) == ALL


def test_a_limit_of_writes_a_minute_is_waited_for_and_a_run_completes_what_another_began(tmp_path: Path) -> None:
    with serving(tmp_path, write_rate_limit=9) as (_, client):
        client.create_collection(  # as a run leaves it that ended while the collection was made
            "photos",
            vectors_config=models.VectorParams(size=16, distance=models.Distance.COSINE),
            sparse_vectors_config={"text": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            metadata=images(client)._description._profile(Schema()),
        )
        assert ingest(MadeSource(2), images(client)).added == 2
        assert len(indexes(client)) == ALL


def test_words_of_a_metadata_text_need_no_other_index_than_their_own(tmp_path: Path) -> None:
    with serving(tmp_path, unindexed_filtering_retrieve=False) as (_, client):
        photos = images(client, fields={"notes": "text"})
        photos.add(
            [solid_image("red"), solid_image("blue")], metadata=[{"notes": ["a cat", "a dog"]}, {"notes": "cat, dog"}]
        )
        assert (photos.count("notes ~ 'cat dog'"), photos.count("notes ~ 'cat'")) == (1, 2)
