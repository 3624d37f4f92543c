"""Of a folder of all kinds of files every good one is stored, every bad one put away for the right reason."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from corpus import NOT_LISTED, UNREADABLE, Expectation, write_corpus
from fakes import FakeEmbedder

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ImageError, SourceError
from clip_qdrant.images.load import Limits, load_image
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant_ingestion import FolderSource, Report, SourceObject, ingest
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState, context_of


class RecordingSource(FolderSource):
    """A folder that keeps the names of the files it was asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: set[str] = set()
        self._lock = threading.Lock()

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        with self._lock:
            self.asked.add(item.name)
        return super().read(item, limits=limits)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


@pytest.fixture
def corpus(folder: Path) -> dict[str, Expectation]:
    expected = write_corpus(folder)
    return {name: expectation for name, expectation in expected.items() if expectation.reason != NOT_LISTED}


@pytest.fixture
def collection(edge_client: EdgeClient) -> ImageCollection:
    return ImageCollection("corpus", FakeEmbedder(), edge_client)


def stored_as(collection: ImageCollection, names: Sequence[str], folder: Path) -> dict[str, Expectation]:
    """What the collection has of these files."""
    found = collection.writer.read_payloads([to_uri(folder / name) for name in names])
    shapes = {}
    for uri, payload in found.items():
        path, image = path_of(uri), payload["image"]
        assert path is not None
        shapes[path.name] = Expectation(None, image["width"], image["height"], image["format"])
    return shapes


def reasons(report: Report) -> dict[str, str]:
    found = {}
    for row in report.quarantined:
        path = path_of(row.uri)
        assert path is not None
        assert row.detail
        found[path.name] = row.reason
    return found


def test_there_are_many_kinds(corpus: dict[str, Expectation]) -> None:
    bad = [expectation for expectation in corpus.values() if expectation.reason]
    assert len(bad) >= 40
    assert len(corpus) - len(bad) >= 45


@pytest.mark.parametrize("target", [None, 16])
def test_each_file_alone_is_loaded_or_refused_for_its_reason(
    corpus: dict[str, Expectation], folder: Path, target: int | None
) -> None:
    outcomes = {}
    for name in corpus:
        try:
            info = load_image(folder / name, target=target).info
            outcomes[name] = Expectation(None, info.width, info.height, info.format)
        except ImageError as error:
            outcomes[name] = Expectation(error.reason)
        except SourceError:
            outcomes[name] = Expectation(UNREADABLE)
    assert outcomes == corpus


def test_every_good_file_is_stored_and_every_bad_one_put_away_for_its_reason(
    corpus: dict[str, Expectation], folder: Path, collection: ImageCollection
) -> None:
    report = ingest(FolderSource(folder), collection, batch_size=16, workers=2)
    good = {name: expectation for name, expectation in corpus.items() if not expectation.reason}
    assert reasons(report) == {name: expected.reason for name, expected in corpus.items() if expected.reason}
    assert stored_as(collection, list(corpus), folder) == good
    assert (report.listed, report.added, collection.count()) == (len(corpus), len(good), len(good))


def test_a_second_run_does_not_read_again_what_is_stored_or_known_to_be_bad(
    corpus: dict[str, Expectation], folder: Path, collection: ImageCollection, tmp_path: Path
) -> None:
    source = RecordingSource(folder)
    scope, context = Scope.of("a store", "corpus", source.name), context_of(Limits())
    with IngestState(tmp_path / "state.sqlite") as state:
        ingest(source, collection, batch_size=16, workers=2, memory=state.put_away(scope, context))
    assert source.asked == set(corpus)
    source.asked.clear()
    with IngestState(tmp_path / "state.sqlite") as state:
        again = ingest(source, collection, batch_size=16, workers=2, memory=state.put_away(scope, context))
    unreadable = {name for name, expected in corpus.items() if expected.reason == UNREADABLE}
    bad = {name for name, expected in corpus.items() if expected.reason} - unreadable
    assert source.asked == unreadable  # that may pass, so it is tried every time
    assert (again.added, again.still_bad, again.skipped) == (0, len(bad), len(corpus) - len(bad) - len(unreadable))
    assert set(reasons(again)) == unreadable


def test_a_limit_of_pixels_puts_away_what_is_larger(
    corpus: dict[str, Expectation], folder: Path, collection: ImageCollection
) -> None:
    report = ingest(FolderSource(folder), collection, workers=2, limits=Limits(max_pixels=64 * 48))
    large = {name for name, expected in corpus.items() if expected.width * expected.height > 64 * 48}
    assert {"wide.png", "tall.png", "wide.jpg"} == large
    assert {name for name, reason in reasons(report).items() if reason == "too large"} >= large
    assert not large & set(stored_as(collection, list(corpus), folder))
