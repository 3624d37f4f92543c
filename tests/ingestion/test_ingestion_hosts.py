"""A host that does not answer costs its own rows alone; when none answers, the source is gone."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from fakes import FakeEmbedder, write_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError, SourceUnavailable
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion import ManifestSource, SourceObject, ingest
from clip_qdrant_ingestion.run import faults as faults
from clip_qdrant_ingestion.run.faults import Retries
from clip_qdrant_ingestion.sources.share import Share


class Web(ManifestSource):
    """A table of images on hosts, of which those called dead refuse to be asked."""

    def __init__(self, table: Path, image: bytes) -> None:
        super().__init__(table)
        self.asked: Counter[str] = Counter()
        self._image = image
        self._asking = threading.Lock()

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        host = item.uri.split("/")[2]
        with self._asking:
            self.asked[host] += 1
        if host.startswith("dead"):
            raise SourceError(f"cannot fetch {item.uri}: connection refused", transient=True)
        return self._image


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


def table(folder: Path, *hosts: tuple[str, int]) -> Web:
    rows = [f"https://{host}/{number}.png" for host, count in hosts for number in range(count)]
    path = folder / "t.csv"
    path.write_text("\n".join(["url", *rows]))
    return Web(path, write_image(folder / "a.png", "red").read_bytes())


@pytest.mark.parametrize("shares", [1, 2])
def test_rows_of_other_hosts_go_on_when_one_is_dead(tmp_path: Path, collection: ImageCollection, shares: int) -> None:
    source = table(tmp_path, ("dead", 300), ("alive", 20), ("user@DEAD", 5), ("other", 20))
    for index in range(shares):
        report = ingest(Share(source, index, shares), collection, patience=0, readers=4)
        assert {row.reason for row in report.quarantined} == {"unreadable"}
        assert any("dead does not answer, so it is not asked any more" in row.detail for row in report.quarantined)
        assert not any(row.permanent for row in report.quarantined)
    assert collection.count() == 40
    assert source.asked["dead"] < 60 * shares
    assert (source.asked["alive"], source.asked["other"]) == (20, 20)


def test_a_table_whose_only_host_is_dead_ends_the_run(tmp_path: Path, collection: ImageCollection) -> None:
    source = table(tmp_path, ("dead", 80))
    with pytest.raises(SourceUnavailable, match="reads in a row failed so"):
        ingest(source, collection, patience=0, readers=4)
    assert source.asked["dead"] < 60


def test_a_network_that_is_down_ends_the_run(tmp_path: Path, collection: ImageCollection) -> None:
    source = table(tmp_path, *((f"dead{number}", 6) for number in range(100)))
    with pytest.raises(SourceUnavailable):
        ingest(source, collection, patience=0, readers=4)
    assert source.asked.total() < 60


def test_rows_of_dead_hosts_without_end_end_the_run(
    tmp_path: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_MISSED_IN_A_ROW", 100)
    source = table(tmp_path, ("dead", 400))
    with pytest.raises(SourceUnavailable):
        ingest(source, collection, patience=0, readers=4)


def test_what_waits_for_its_next_try_is_given_up_when_its_host_is() -> None:
    retries = Retries(patience=60.0, stop=threading.Event(), many_places=True)
    failing = threading.Event()

    def fail() -> None:
        failing.set()
        raise SourceError("refused", transient=True)

    given_up: list[SourceError] = []

    def wait() -> None:
        try:
            retries(fail, "https://dead")
        except SourceError as error:
            given_up.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    failing.wait()
    for _ in range(50):
        retries._count_failure("https://dead", SourceError("refused", transient=True))
    thread.join(10)
    assert [error.transient for error in given_up] == [False]
