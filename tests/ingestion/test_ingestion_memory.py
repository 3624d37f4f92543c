"""The bytes of images in work are bounded, whatever sizes a source tells."""

from __future__ import annotations

import gc
import inspect
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fakes import FakeEmbedder, MadeSource
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ImageTooLarge
from clip_qdrant.images.load import Limits
from clip_qdrant.web.pieces import join_pieces
from clip_qdrant_ingestion import SourceObject, ingest
from clip_qdrant_ingestion.run import stages as stages
from clip_qdrant_ingestion.run.dry_run import plan

MIB = 1 << 20


class Liar(MadeSource):
    """Tells sizes that are not those of its images, and notes how much may be in its hands at once."""

    def __init__(self, number: int, told: int | None, real: int) -> None:
        super().__init__(number, size=0, readers=16)
        self._told, self._real = told, real
        self._objects = [SourceObject(item.uri, item.name, size=told, mtime=1.0) for item in self._objects]
        self._now = 0
        self.peak = 0

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        taken = min(self._real, limits.max_bytes)
        with self._lock:
            self._now += taken
            self.peak = max(self.peak, self._now)
        try:
            if self._real > limits.max_bytes:
                raise ImageTooLarge(f"{item.uri} has more bytes than the limit of {limits.max_bytes}")
            data = super().read(item, limits=limits)
            return data + bytes(self._real - len(data))
        finally:
            with self._lock:
                self._now -= taken


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.mark.parametrize(("told", "real"), [(1000, 3 * MIB), (None, 3 * MIB), (1000, 9 * MIB), (12 * MIB, 9 * MIB)])
def test_no_more_is_read_than_was_reserved(
    collection: ImageCollection, monkeypatch: pytest.MonkeyPatch, told: int | None, real: int
) -> None:
    monkeypatch.setattr(stages, "_READ_BYTES", 8 * MIB)
    source = Liar(12, told, real)
    report = ingest(source, collection)
    assert (report.added, report.quarantined) == (12, ())
    assert source.peak <= max(8 * MIB, real)  # one that is larger than all has it for itself
    planned = plan(Liar(12, told, real), collection)  # which reads those whose size nobody tells
    assert planned.unchanged + planned.described == 12


def test_what_is_larger_than_the_limit_is_refused_as_before(collection: ImageCollection) -> None:
    report = ingest(Liar(3, 1000, 9 * MIB), collection, limits=Limits(max_bytes=5 * MIB))
    assert [row.reason for row in report.quarantined] == ["too large"] * 3


def test_what_is_read_is_given_back_when_a_run_is_stopped(
    collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_READ_BYTES", 4 * MIB)
    stop = threading.Event()
    source = Liar(60, 1000, 3 * MIB)
    report = ingest(source, collection, batch_size=2, stop=stop, progress=lambda event: event.done and stop.set())
    assert report.interrupted
    assert ingest(Liar(30, 1000, 3 * MIB), collection).quarantined == ()


def test_pieces_are_joined(tmp_path: Path) -> None:
    pieces = [bytes([number]) * (700_000 + number) for number in range(9)]
    assert join_pieces(pieces) == b"".join(pieces)
    assert join_pieces([]) == b""


class Broken(MadeSource):
    """Images that are cut short, none, too large, or whole, in turn."""

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        data = super().read(item, limits=limits)
        kind = int(re.sub(r"\D", "", item.name) or 0) % 4
        if kind == 2:
            raise ImageTooLarge(f"{item.uri} is too large")
        return (data[: len(data) * 2 // 3], b"no image", b"", data)[kind]


def find_images_in_work() -> list[object]:
    """Images that have been read, and the calls that decode one, of whatever run in this process."""
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, stages.Read) or (inspect.isframe(one) and one.f_code.co_name == "load_image")
    ]


def test_nothing_of_an_image_that_cannot_be_used_is_kept(collection: ImageCollection) -> None:
    gc.collect()
    gc.disable()  # which would find what refers to itself
    try:
        of_other_tests = find_images_in_work()
        report = ingest(Broken(16), collection)
        kept = [one for one in find_images_in_work() if not any(one is other for other in of_other_tests)]
    finally:
        gc.enable()
    assert (report.added, len(report.quarantined)) == (4, 12)
    assert kept == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is asked for in the way of Linux")
def test_the_peak_of_a_worker_is_what_the_documentation_says() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "ingest_memory.py"
    run = subprocess.run([sys.executable, script, "10", "63", "10"], capture_output=True, text=True, check=True)
    told = re.search(r"(\d+) MiB at the peak", run.stdout)
    assert told is not None, run.stdout
    assert int(told[1]) < 640
    assert "{'not an image': 10}" in run.stdout
