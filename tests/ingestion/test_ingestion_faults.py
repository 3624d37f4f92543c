"""What fails for one image costs that image, what may pass is tried again, and what ends a run ends it at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import FakeEmbedder, MadeSource, RecordingClient
from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import UnexpectedResponse

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import (
    ImageTooLarge,
    MissingExtra,
    ModelError,
    NotAnImage,
    SourceError,
    SourceUnavailable,
    StateError,
    StoreError,
    StoreLocked,
    StoreUnavailable,
)
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import point_id
from clip_qdrant_ingestion import Page, SourceObject, ingest
from clip_qdrant_ingestion.run.faults import Retries, Stopped, bisect_work
from clip_qdrant_ingestion.run.report import Duplicate, Quarantined


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


def busy(item: SourceObject) -> SourceError:
    return SourceError(f"cannot read {item.uri}: 503 Slow Down", transient=True)


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]


# Reads


class _Clockless(Retries):
    """Keeps the pauses it is to make, and makes none."""

    def __init__(self) -> None:
        super().__init__(patience=3600, stop=threading.Event())
        self.pauses: list[float] = []

    def _pause(self, seconds: float, *, place: str) -> None:
        self.pauses.append(seconds)


def test_the_pauses_before_another_try_double_up_to_ten_seconds_and_are_random() -> None:
    retries = _Clockless()
    attempts = 0

    def operation() -> str:
        nonlocal attempts
        attempts += 1
        if attempts <= 10:
            raise SourceError("503", transient=True)
        return "done"

    assert retries(operation) == "done"
    assert len(retries.pauses) == 10
    for number, pause in enumerate(retries.pauses):
        least = min(10, 0.1 * 2**number)
        assert least <= pause <= least + 0.2
    assert len({pause - min(10, 0.1 * 2**number) for number, pause in enumerate(retries.pauses)}) == 10


def test_reads_that_fail_for_a_passing_reason_are_tried_again_and_stored(collection: ImageCollection) -> None:
    def twice_busy(item: SourceObject, attempt: int) -> None:
        if attempt < 2 and item.name in ("003.png", "007.png"):
            raise busy(item)

    source = MadeSource(10, before_read=twice_busy)
    report = ingest(source, collection)
    assert (report.added, report.quarantined) == (10, ())
    assert {name: count for name, count in source.reads.items() if count > 1} == {"003.png": 3, "007.png": 3}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("cannot read it: 404 Not Found"), "unreadable"),
        (NotAnImage("no image"), "not an image"),
        (ImageTooLarge("300 MB; the limit is 256 MB"), "too large"),
        (OSError("a bug in a source"), "error"),
    ],
    ids=["not found", "not an image", "too large", "anything else"],
)
def test_reads_that_fail_for_good_are_never_tried_again(
    collection: ImageCollection, error: Exception, reason: str
) -> None:
    def failing(item: SourceObject, attempt: int) -> None:
        if item.name == "003.png":
            raise error

    source = MadeSource(10, before_read=failing)
    report = ingest(source, collection)
    assert report.added == 9
    assert [(row.uri, row.reason) for row in report.quarantined] == [(MadeSource.uri("003.png"), reason)]
    tries = source.reads.pop("003.png")
    assert tries == 1 or reason == "too large"  # it is asked for again, with more room, until it is more than the limit
    assert set(source.reads.values()) == {1}


def test_a_read_that_goes_on_failing_is_given_up_after_the_patience_and_is_one_row(collection: ImageCollection) -> None:
    def failing(item: SourceObject, attempt: int) -> None:
        if item.name == "003.png":
            raise busy(item)

    source = MadeSource(10, before_read=failing)
    report = ingest(source, collection, patience=1.0)
    assert report.added == 9
    (row,) = report.quarantined
    assert (row.uri, row.reason, row.permanent) == (MadeSource.uri("003.png"), "unreadable", False)
    assert source.reads["003.png"] > 1
    assert ingest(MadeSource(10), collection).added == 1


def test_a_source_that_answers_nothing_any_more_ends_the_run(collection: ImageCollection) -> None:
    def failing(item: SourceObject, attempt: int) -> None:
        if item.name >= "020.png":
            raise busy(item)

    source = MadeSource(300, before_read=failing)
    with pytest.raises(SourceUnavailable, match=r"503 Slow Down; \d+ reads in a row failed so.*run it again"):
        ingest(source, collection, patience=0, batch_size=4)
    assert 70 <= source.reads.total() < 70 + 3 * 8 + 8
    assert no_thread_is_left()
    report = ingest(MadeSource(300), collection)
    assert report.added + report.skipped == collection.count() == 300


def test_one_read_that_works_now_and_then_keeps_the_run_going(collection: ImageCollection) -> None:
    def failing(item: SourceObject, attempt: int) -> None:
        if int(item.name[:3]) % 40:
            raise busy(item)

    report = ingest(MadeSource(120, readers=1, before_read=failing), collection, patience=0)
    assert (report.added, len(report.quarantined)) == (3, 117)
    assert {row.reason for row in report.quarantined} == {"unreadable"}


def test_a_stop_ends_all_that_wait_for_another_try_and_quarantines_nothing(collection: ImageCollection) -> None:
    stop = threading.Event()

    def failing(item: SourceObject, attempt: int) -> None:
        if attempt == 3:
            stop.set()
        if int(item.name[:3]) % 2:
            raise busy(item)

    source = MadeSource(40, before_read=failing)
    report = ingest(source, collection, patience=3600, stop=stop)
    assert report.interrupted
    assert report.quarantined == ()
    assert max(source.reads.values()) <= 5
    assert ingest(MadeSource(40), collection).quarantined == ()
    assert collection.count() == 40


def test_a_stop_while_it_waits_is_noticed_at_once_and_not_by_another_try() -> None:
    stop = threading.Event()
    attempts = 0

    def operation() -> None:
        nonlocal attempts
        attempts += 1
        stop.set()
        raise SourceError("503", transient=True)

    with pytest.raises(Stopped):
        Retries(patience=3600, stop=stop)(operation)
    assert attempts == 1


# Poisoned batches


def test_bisecting_finds_the_culprit_in_twice_the_logarithm_of_calls() -> None:
    calls: list[int] = []
    done: list[int] = []
    culprits: list[tuple[int, str]] = []

    def work(group: Sequence[int]) -> None:
        calls.append(len(group))
        if 37 in group:
            raise ValueError("not this one")
        done.extend(group)

    bisect_work(range(64), work, lambda item, error: culprits.append((item, str(error))))
    assert culprits == [(37, "not this one")]
    assert done == [number for number in range(64) if number != 37]  # in their order
    assert len(calls) == 1 + 2 * 6


def test_several_culprits_are_told_apart_where_others_are_done() -> None:
    culprits: list[int] = []

    def work(group: Sequence[int]) -> None:
        if {3, 4, 40} & set(group):
            raise ValueError

    bisect_work(range(64), work, lambda item, error: culprits.append(item))
    assert culprits == [3, 4, 40]


def test_what_fails_for_every_item_alone_is_the_fault_of_none() -> None:
    def work(group: Sequence[int]) -> None:
        raise RuntimeError(f"out of memory at {group[0]}")

    with pytest.raises(RuntimeError, match="out of memory at 0"):
        bisect_work(range(8), work, lambda item, error: pytest.fail("blamed"))


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreLocked("locked"), StateError("disk full")])
def test_a_batch_is_not_bisected_for_what_is_of_no_image(error: Exception) -> None:
    calls = 0

    def work(group: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        bisect_work(range(8), work, lambda item, error: pytest.fail("blamed"))
    assert calls == 1


CULPRIT = MadeSource.uri("021.png")


class _Poisoned(FakeEmbedder):
    """Gives NaN, or fails, for the batch that holds one picture of 32."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self._fails = fails
        self.calls = 0

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        culprit = (pixels[:, 0, 0] == (21, 0, 90)).all(axis=1)
        if self._fails and culprit.any():
            raise ValueError("a kernel failed")
        vectors = super().embed_pixels(pixels)
        vectors[culprit] = np.nan
        return vectors


class _Refusing(RecordingClient):
    """Passes calls on, but refuses whatever upsert holds one point, or any."""

    def __init__(self, client: Any, *uris: str) -> None:
        super().__init__(client)
        self._ids = {point_id(uri) for uri in uris}

    def upsert(self, name: str, points: list[models.PointStruct], **options: Any) -> Any:
        self.calls.append("upsert")
        if not self._ids or self._ids & {str(point.id) for point in points}:
            raise UnexpectedResponse(422, "", b'{"status": {"error": "a payload too odd"}}', httpx.Headers())
        return self._wrapped.upsert(name, points, **options)


_MOST_CALLS = 2 * (1 + 2 * math.log2(32))  # the images may come in two batches


@pytest.mark.parametrize("fails", [True, False], ids=["it raises", "it gives NaN"])
def test_an_image_at_which_the_model_fails_is_the_only_one_put_away(memory_client: QdrantBase, fails: bool) -> None:
    embedder, client = _Poisoned(fails=fails), RecordingClient(memory_client)
    collection = ImageCollection("photos", embedder, client)  # type: ignore[arg-type]
    report = ingest(MadeSource(32), collection, batch_size=32)
    assert report.added == collection.count() == 31
    (row,) = report.quarantined
    assert row.uri == CULPRIT
    assert (row.reason, row.permanent) == ("error" if fails else "bad vector", False)
    assert "a kernel failed" in row.detail or "not finite" in row.detail
    assert embedder.calls + client.calls.count("upsert") <= _MOST_CALLS


def test_an_image_that_the_store_refuses_is_the_only_one_put_away(memory_client: QdrantBase) -> None:
    client = _Refusing(memory_client, CULPRIT)
    collection = ImageCollection("photos", FakeEmbedder(), client)  # type: ignore[arg-type]
    report = ingest(MadeSource(32), collection, batch_size=32)
    assert report.added == collection.count() == 31
    (row,) = report.quarantined
    assert (row.uri, row.reason) == (CULPRIT, "refused by the store")
    assert "a payload too odd" in row.detail
    assert client.calls.count("upsert") <= _MOST_CALLS


def test_a_store_that_refuses_every_image_ends_the_run_with_its_words(memory_client: QdrantBase) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), _Refusing(memory_client))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="a payload too odd"):
        ingest(MadeSource(32), collection)
    assert no_thread_is_left()


def test_a_model_that_gives_too_few_vectors_stores_none_twice(memory_client: QdrantBase) -> None:
    class Short(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return super().embed_pixels(pixels)[: max(1, len(pixels) - 1)]

    client = RecordingClient(memory_client)
    report = ingest(MadeSource(8), ImageCollection("photos", Short(), client), batch_size=8)  # type: ignore[arg-type]
    assert report.added == 8


# What ends a run


_ENDS = [
    StoreUnavailable("no answer"),
    StoreLocked("another process has it"),
    ModelError("the model is broken"),
    MissingExtra("onnxruntime", "onnx", "embedding"),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["retrieve", "scroll", "upsert"], ids=["plan", "embed", "write"])
@pytest.mark.parametrize("error", _ENDS, ids=lambda error: type(error).__name__)
def test_what_is_of_no_image_ends_the_run_and_leaves_no_thread(
    memory_client: QdrantBase, method: str, error: Exception
) -> None:
    client = RecordingClient(memory_client)
    collection = ImageCollection("photos", FakeEmbedder(), client)  # type: ignore[arg-type]
    ingest(MadeSource(4), collection)

    def fail() -> None:
        raise error

    client.before[method] = fail
    with pytest.raises(type(error), match=str(error).split(maxsplit=1)[0]):
        ingest(MadeSource(300), collection, batch_size=4)
    assert no_thread_is_left()
    client.before.clear()
    report = ingest(MadeSource(300), collection)
    assert report.added + report.skipped == collection.count() == 300
    assert report.quarantined == ()


def test_a_model_error_at_one_image_of_many_ends_the_run(memory_client: QdrantBase) -> None:
    class Broken(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if (pixels[:, 0, 0] == (21, 0, 90)).all(axis=1).any():
                raise ModelError("the session is gone")
            return super().embed_pixels(pixels)

    with pytest.raises(ModelError, match="the session is gone"):
        ingest(MadeSource(32), ImageCollection("photos", Broken(), memory_client))
    assert no_thread_is_left()


class _FullDisk:
    """A state file that cannot be written."""

    def known(self, objects: Sequence[SourceObject]) -> Mapping[str, Quarantined | Duplicate]:
        return {}

    def _refuse(self, rows: Sequence[object]) -> None:
        raise StateError("cannot write ingestion.sqlite: the disk is full")

    put = settle = release = _refuse

    def settle_unmet(self) -> None:
        pass


def test_a_state_file_that_cannot_be_written_ends_the_run(collection: ImageCollection) -> None:
    with pytest.raises(StateError, match="the disk is full"):
        ingest(MadeSource(600), collection, memory=_FullDisk(), batch_size=50)
    assert no_thread_is_left()


class _Listing(MadeSource):
    """Lists a few at a time, and waits before each page but the first."""

    def __init__(self, number: int, wait: Callable[[], object]) -> None:
        super().__init__(number)
        self._wait = wait
        self.pages_listed = 0

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        for start in range(0, len(self._objects), 2):
            if self.pages_listed:
                self._wait()
            self.pages_listed += 1
            yield Page(self._objects[start : start + 2])


def test_a_failure_ends_the_listing_of_images_that_need_nothing(memory_client: QdrantBase) -> None:
    failed = threading.Event()

    class Broken(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            failed.set()
            raise ModelError("the model is gone")

    ingest(MadeSource(100), ImageCollection("photos", FakeEmbedder(), memory_client))
    broken = ImageCollection("photos", Broken(), memory_client)
    broken.delete(uris=[MadeSource.uri("000.png"), MadeSource.uri("001.png")])

    def wait() -> None:
        assert failed.wait(60)
        time.sleep(0.05)

    source = _Listing(100, wait)
    with pytest.raises(ModelError, match="the model is gone"):
        ingest(source, broken, batch_size=2)
    assert source.pages_listed < 50


def test_a_vector_of_the_wrong_length_never_reaches_the_store(memory_client: QdrantBase) -> None:
    class Wrong(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return super().embed_pixels(pixels) * 2

    client = RecordingClient(memory_client)
    collection = ImageCollection("photos", Wrong(), client)  # type: ignore[arg-type]
    report = ingest(MadeSource(5), collection)
    assert {row.reason for row in report.quarantined} == {"bad vector"}
    assert "upsert" not in client.calls


def test_a_failed_run_does_not_wait_for_what_is_tried_again(
    collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object) -> None:
        raise StoreUnavailable("no answer")

    def busy_later(item: SourceObject, attempt: int) -> None:
        if item.name >= "030.png":
            raise busy(item)

    monkeypatch.setattr(collection.writer, "write", away)
    with pytest.raises(StoreUnavailable, match="no answer"):  # and not in an hour
        ingest(MadeSource(60, before_read=busy_later), collection, batch_size=8, patience=3600)
    assert no_thread_is_left()


@pytest.mark.slow
def test_objects_of_unknown_size_are_charged_what_such_objects_took(collection: ImageCollection) -> None:
    """Ten megabytes each, of which the listing says nothing; at most 128 MB are to be held."""
    held: list[int] = []
    lock = threading.Lock()
    in_flight = 0

    class Heavy(MadeSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            for page in super().pages(folders):
                yield Page([replace(item, size=None) for item in page.objects])

        def read(self, item: SourceObject, *, limits: Limits) -> bytes:
            nonlocal in_flight
            data = super().read(item, limits=limits)
            with lock:
                in_flight += 1
            return data + b"\0" * 10_000_000

    class Slow(FakeEmbedder):
        def preprocess(self, rgb: Any) -> Any:
            nonlocal in_flight
            time.sleep(0.005)
            with lock:
                held.append(in_flight)
                in_flight -= 1
            return super().preprocess(rgb)

    heavy = ImageCollection("heavy", Slow(), collection.client)
    assert ingest(Heavy(120, readers=32), heavy, workers=1).added == 120
    # The first eight are read before anything is known, and a reader may hold one that waits for its turn.
    assert max(held) <= 14 + 8


# Names and words of any length


def test_what_files_say_of_themselves_reaches_no_table_state_or_log_at_any_length(collection: ImageCollection) -> None:
    long = SourceObject("https://photos.example/" + "a" * 1_000_000, "long")

    def refuse(item: SourceObject, attempt: int) -> None:
        raise NotAnImage("b" * 1_000_000)

    class Source(MadeSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            yield Page((long,))
            yield from super().pages(folders)

    report = ingest(Source(1, before_read=refuse), collection)

    assert [(row.reason, len(row.uri) < 17_000, len(row.detail) < 2100) for row in report.quarantined] == [
        ("bad metadata", True, True),
        ("not an image", True, True),
    ]
    assert "a uri of 1000023 characters is longer than the 16384 of the longest" in report.quarantined[0].detail
