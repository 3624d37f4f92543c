"""Watch mode: changes come to rest, one run sees them all, and none is lost when a run fails."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from clip_qdrant.errors import ConfigError, MissingExtra, ModelError, SourceError, StoreUnavailable
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.worker.events.change_queue import ChangeQueue
from clip_qdrant_ingestion.worker.events.file_system import file_events
from clip_qdrant_ingestion.worker.events.messages import Change
from clip_qdrant_ingestion.worker.health import Health
from clip_qdrant_ingestion.worker.watch import wait_for_store, watch

ROOT = "s3://photos/"
SUFFIXES = (".jpg", ".json", ".jsonl")
LONG = 15.0  # seconds; what is waited for comes much sooner
Call = tuple[set[str] | None, set[str]]


def folder_of(uri: str) -> str | None:
    if not uri.startswith(ROOT):
        return None
    return uri.removeprefix(ROOT).rpartition("/")[0]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def changed(*names: str) -> list[Change]:
    return [Change(ROOT + name) for name in names]


def removed(*names: str) -> list[Change]:
    return [Change(ROOT + name, removed=True) for name in names]


# Coming to rest


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> ChangeQueue:
    return ChangeQueue(folder_of, debounce=2, max_wait=10, clock=clock)


def test_changes_are_given_out_together_when_none_was_added_for_a_while(queue: ChangeQueue, clock: Clock) -> None:
    queue.put(changed("a/1.jpg", "a/2.jpg"))
    clock.now += 1.5
    queue.put(changed("b/c/3.jpg", "top.jpg"))
    clock.now += 1.9
    assert queue.take() is None
    assert queue.waiting == 3
    clock.now += 0.1
    assert queue.take() == Extent(frozenset({"a", "b/c", ""}))
    assert queue.take() is None
    assert queue.waiting == 0


def test_changes_that_never_end_wait_no_longer_than_allowed(queue: ChangeQueue, clock: Clock) -> None:
    for number in range(20):
        queue.put(changed(f"a/{number}.jpg"))
        if (extent := queue.take()) is not None:
            break
        clock.now += 1
    assert number == 10
    assert extent == Extent(frozenset({"a"}))


def test_what_is_not_of_the_source_is_left_out(queue: ChangeQueue, clock: Clock) -> None:
    queue.put([Change("s3://other/a.jpg"), Change("https://x/y.jpg", removed=True)])
    clock.now += 100
    assert queue.take() is None


def test_a_removed_object_is_named_and_its_folder_is_looked_at(queue: ChangeQueue, clock: Clock) -> None:
    queue.put(removed("a/1.jpg", "a/2.jpg"))
    queue.put(changed("a/2.jpg"))  # there again
    clock.now += 2
    assert queue.take() == Extent(frozenset({"a"}), frozenset({f"{ROOT}a/1.jpg"}))


@pytest.mark.parametrize("name", ["metadata.jsonl", "a/Metadata.CSV"])
def test_a_table_of_metadata_touches_everything(queue: ChangeQueue, clock: Clock, name: str) -> None:
    queue.put([*changed("a/1.jpg", name), *removed("b/2.jpg")])
    clock.now += 2
    assert queue.take() == Extent(None, frozenset({f"{ROOT}b/2.jpg"}))


def test_more_changes_than_are_kept_by_name_make_a_whole_run(
    queue: ChangeQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.worker.events.change_queue._MOST", 10)
    queue.put(removed(*(f"a/{number}.jpg" for number in range(9))))
    assert queue.waiting == 10
    queue.put(changed("b/1.jpg"))
    assert queue.waiting == 1
    clock.now += 2
    assert queue.take() == Extent(None)


def test_names_of_more_characters_than_are_kept_make_a_whole_run_and_count_once(
    queue: ChangeQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.worker.events.change_queue._LARGEST", 1000)
    for _ in range(100):
        queue.put(removed("a/" + "1" * 400))
    assert queue.waiting == 2
    queue.put(removed("a/" + "2" * 1000))
    assert queue.waiting == 1
    clock.now += 2
    assert queue.take() == Extent(None)
    queue.put(changed("b/1.jpg"))  # the next start anew
    clock.now += 2
    assert queue.take() == Extent(frozenset({"b"}))


def test_what_is_put_back_is_ready_and_joins_what_came_since(queue: ChangeQueue, clock: Clock) -> None:
    queue.put([*changed("a/1.jpg"), *removed("b/1.jpg")])
    clock.now += 2
    extent = queue.take()
    assert extent is not None
    queue.put(changed("c/1.jpg"))
    queue.put_back(extent)
    assert queue.take() == Extent(frozenset({"a", "b", "c"}), frozenset({f"{ROOT}b/1.jpg"}))

    queue.put_back(Extent(None))
    queue.put(changed("d/1.jpg"))
    clock.now += 2
    assert queue.take() == Extent(None)


@pytest.mark.parametrize(("debounce", "max_wait"), [(-1, 5), (10, 5)])
def test_times_that_contradict_each_other_are_refused(debounce: float, max_wait: float) -> None:
    with pytest.raises(ConfigError, match=f"debounce {debounce} must be from 0 to max_wait {max_wait} seconds"):
        ChangeQueue(folder_of, debounce=debounce, max_wait=max_wait)


# The loop


class Runs:
    """Stands for `ingest`: keeps what it was called with, and answers as told, with success where nothing was."""

    def __init__(self, *answers: Report | Exception) -> None:
        self.answers = list(answers)
        self.calls: Queue[Call] = Queue()
        self.during: Callable[[], None] = lambda: None

    def __call__(self, extent: Extent) -> Report:
        self.during()
        self.calls.put((None if extent.folders is None else set(extent.folders), set(extent.removed)))
        answer = self.answers.pop(0) if self.answers else Report()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def next(self) -> Call:
        return self.calls.get(timeout=LONG)

    def gather(self, folders: set[str], removed: set[str] | None = None) -> bool:
        """Whether the next runs are over these, all told; on a busy machine what is changed together comes apart."""
        seen: Call = (set(), set())
        while not (folders <= (seen[0] or set()) and (removed or set()) <= seen[1]):
            more = self.next()
            assert more[0] is not None
            seen = ((seen[0] or set()) | more[0], seen[1] | more[1])
        return seen == (folders, removed or set())

    def none_more(self) -> bool:
        try:
            self.calls.get(timeout=0.5)
        except Empty:
            return True
        return False


@dataclass
class Watch:
    """A watch in a thread of its own."""

    runs: Runs
    queue: ChangeQueue
    stop: threading.Event
    thread: threading.Thread
    result: list[Report | BaseException | None]

    def ended(self) -> Report | BaseException | None:
        self.thread.join(timeout=LONG)
        assert not self.thread.is_alive()
        return self.result[0]


@contextmanager
def watching(
    runs: Runs,
    *,
    queue: ChangeQueue | None = None,
    health: Health | None = None,
    interval: float | None = None,
    pauses: tuple[float, float] = (0.01, 0.02),
) -> Iterator[Watch]:
    box = queue or ChangeQueue(folder_of, debounce=0.05, max_wait=5)
    stop, result = threading.Event(), []

    def turn() -> None:
        try:
            result.append(watch(runs, box, stop=stop, health=health, interval=interval, pauses=pauses))
        except BaseException as error:  # noqa: BLE001  the test looks at it
            result.append(error)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield Watch(runs, box, stop, thread, result)
    finally:
        stop.set()
        thread.join(timeout=LONG)


def test_a_whole_run_at_the_start_is_followed_by_runs_over_what_changed() -> None:
    with watching(Runs(Report(added=1), Report(added=2))) as one:
        assert one.runs.next() == (None, set())
        one.queue.put([*changed("a/1.jpg", "a/2.jpg"), *removed("b/1.jpg")])
        assert one.runs.next() == ({"a", "b"}, {f"{ROOT}b/1.jpg"})
        assert one.runs.none_more()
        one.stop.set()
        assert one.ended() == Report(added=2)


def test_what_comes_in_during_a_run_is_for_the_next() -> None:
    runs = Runs()
    queue = ChangeQueue(folder_of, debounce=0.05, max_wait=5)
    during = iter([lambda: queue.put(changed("late/1.jpg"))])
    runs.during = lambda: next(during, lambda: None)()
    with watching(runs, queue=queue):
        assert runs.next() == (None, set())
        assert runs.next() == ({"late"}, set())
        assert runs.none_more()


def test_an_interval_makes_whole_runs_again_and_again() -> None:
    with watching(Runs(), interval=0.2) as one:
        assert [one.runs.next() for _ in range(3)] == [(None, set())] * 3


def test_a_failed_run_is_made_again_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    away = StoreUnavailable("no answer from http://store:6333")
    runs = Runs(Report(), away, SourceError("timeout"), away, away, Report(added=5))
    with watching(runs, health=health) as one:
        assert one.runs.next() == (None, set())
        one.queue.put([*changed("a/1.jpg"), *removed("b/1.jpg")])
        for _ in range(5):
            assert one.runs.next() == ({"a", "b"}, {f"{ROOT}b/1.jpg"})
        assert one.runs.none_more()
        one.stop.set()
        assert one.ended() == Report(added=5)
    assert health.not_ready() is None
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(" in ")[2] for text in told] == [
        "0.01 s: no answer from http://store:6333",
        "0.02 s: timeout",
        "0.02 s: no answer from http://store:6333",
        "0.02 s: no answer from http://store:6333",
    ]


def test_a_pause_grows_no_further_than_allowed_and_a_stop_ends_it() -> None:
    health = Health()
    with watching(Runs(StoreUnavailable("away")), health=health, pauses=(3600, 3600)) as one:
        one.runs.next()
        one.queue.put(changed("a/1.jpg"))
        assert one.runs.none_more()
        assert health.not_ready() == "away"
        assert health.not_live() is None
        one.stop.set()
        assert one.ended() is None


def test_a_source_that_cannot_be_listed_at_the_start_ends_the_watch() -> None:
    with watching(Runs(SourceError("cannot list ./phtos: not found"))) as one:
        assert str(one.ended()) == "cannot list ./phtos: not found"


def test_a_source_that_may_come_by_itself_is_waited_for() -> None:
    with watching(Runs(SourceError("throttled", transient=True))) as one:
        assert [one.runs.next() for _ in range(2)] == [(None, set())] * 2


@pytest.mark.parametrize("error", [ModelError("damaged"), RuntimeError("a bug")])
def test_any_other_error_ends_the_watch(error: Exception) -> None:
    with watching(Runs(Report(), error), health=Health()) as one:
        one.runs.next()
        one.queue.put(changed("a/1.jpg"))
        assert one.ended() is error


def test_an_interrupted_run_ends_the_watch_with_its_report() -> None:
    with watching(Runs(Report(added=3, interrupted=True))) as one:
        assert one.ended() == Report(added=3, interrupted=True)


def test_a_thread_of_changes_that_fails_ends_the_watch() -> None:
    with watching(Runs()) as one:
        one.runs.next()
        one.queue.fail(SourceError("the folder is no longer watched"))
        assert str(one.ended()) == "the folder is no longer watched"


def test_health_follows_the_runs() -> None:
    health = Health()
    runs = Runs()
    seen: list[object] = []

    def during() -> None:
        health.note_progress(Progress(listed=3, added=1))
        seen.append(health.document()["run"]["listed"])

    runs.during = during
    with watching(runs, health=health) as one:
        one.runs.next()
        one.stop.set()
        one.ended()
    assert seen == [3]
    assert health.document()["run"] is None
    assert health.document()["last"]["outcome"] == "done"


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="the interval is 0 seconds: it must be more than 0"):
        watch(Runs(), ChangeQueue(folder_of), stop=threading.Event(), interval=0)


# The file system


def of_folder(root: Path) -> Callable[[str], str | None]:
    """The `folder_of` of a local folder."""

    def folder(uri: str) -> str | None:
        path = path_of(uri)
        if path is None or not path.is_relative_to(root):
            return None
        return path.parent.relative_to(root).as_posix().removeprefix(".")

    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "old").mkdir(parents=True)
    (tmp_path / "photos" / "old" / "1.jpg").write_bytes(b"1")
    return tmp_path / "photos"


@pytest.fixture
def runs(root: Path) -> Iterator[Runs]:
    """Runs of a watch over `root`, after the first whole one."""
    made = Runs()
    box = ChangeQueue(of_folder(root), debounce=0.3, max_wait=5)
    with file_events(root, box, suffixes=SUFFIXES, ignored=[root / "store"]), watching(made, queue=box):
        assert made.next() == (None, set())
        yield made


def test_new_changed_and_replaced_files_touch_their_folders(root: Path, runs: Runs) -> None:
    (root / "top.jpg").write_bytes(b"2")
    (root / "old" / "1.json").write_text("{}")
    assert runs.gather({"", "old"})

    (root / "old" / "new.part").write_bytes(b"3")
    (root / "old" / "new.part").replace(root / "old" / "1.jpg")
    assert runs.gather({"old"})
    assert runs.none_more()


def test_removed_and_renamed_files_are_named(root: Path, runs: Runs) -> None:
    (root / "old" / "1.jpg").rename(root / "2.jpg")
    assert runs.gather({"", "old"}, {to_uri(root / "old" / "1.jpg")})
    (root / "2.jpg").unlink()
    assert runs.gather({""}, {to_uri(root / "2.jpg")})


def test_a_folder_that_is_moved_in_is_looked_at_with_all_below_it(root: Path, runs: Runs, tmp_path: Path) -> None:
    for name in ("1.jpg", "deep/er/2.jpg", ".hidden/3.jpg", "empty/notes.md"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "album").rename(root / "album")
    assert runs.gather({"album", "album/deep/er"})


def test_a_folder_that_vanished_makes_a_whole_run(root: Path, runs: Runs, tmp_path: Path) -> None:
    (root / "old").rename(tmp_path / "elsewhere")
    assert runs.next()[0] is None


def test_a_name_with_a_line_break_is_no_trouble(root: Path, runs: Runs) -> None:
    (root / "a\nb c%20.jpg").write_bytes(b"x")
    assert runs.gather({""})
    (root / "a\nb c%20.jpg").unlink()
    assert runs.gather({""}, {to_uri(root / "a\nb c%20.jpg")})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.slow
def test_a_name_that_is_no_utf8_makes_a_whole_run_and_the_watch_goes_on(root: Path, runs: Runs) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"x")
    assert runs.next()[0] is None
    assert runs.none_more()
    (root / "old" / "3.jpg").write_bytes(b"x")
    assert runs.gather({"old"})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.slow
def test_many_names_that_are_no_utf8_do_not_end_the_watch(root: Path, runs: Runs) -> None:
    for number in range(40):
        Path(os.fsdecode(os.fsencode(root) + b"/\xe9%d.jpg" % number)).write_bytes(b"x")
        threading.Event().wait(0.03)  # so that the watch breaks off again as soon as it is on
    for number in range(20):
        (root / "old" / f"{number}.jpg").write_bytes(b"x")
        if runs.next() == ({"old"}, set()):
            return
    pytest.fail("no change is told by itself any more")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_does_not_keep_a_watch_from_its_beginning(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles

    real, started = watchfiles.watch, []

    def watch(*paths: Path, **options: Any) -> Iterator[Any]:
        changes = real(*paths, **options)
        if not started:
            started.append(next(changes))
            Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"x")
        return changes

    monkeypatch.setattr(watchfiles, "watch", watch)
    queue = ChangeQueue(of_folder(root), debounce=0, max_wait=0)
    with file_events(root, queue, suffixes=SUFFIXES):
        assert queue.take() == Extent(None)


@pytest.mark.parametrize("name", ["2024.05.01", "St. Moritz", "cats.jpg"])
@pytest.mark.slow
def test_a_folder_with_a_dot_in_its_name_that_vanished_makes_a_whole_run(root: Path, tmp_path: Path, name: str) -> None:
    for folder in (root / "old" / name, tmp_path / "album" / name):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"x")
    made, box = Runs(), ChangeQueue(of_folder(root), debounce=0.3, max_wait=5)
    with file_events(root, box, suffixes=SUFFIXES), watching(made, queue=box):
        assert made.next() == (None, set())
        (root / "old" / name).rename(tmp_path / "there from the beginning")
        assert made.next()[0] is None
        (tmp_path / "album").rename(root / "album")
        assert made.gather({f"album/{name}"})
        (root / "album" / name).rename(tmp_path / "came later")
        assert made.next()[0] is None


def test_what_the_worker_writes_itself_and_what_is_no_image_starts_no_run(root: Path, runs: Runs) -> None:
    for name in ("store/segment/4", "store/x.jpg", ".git/y.jpg", ".tmp.jpg", "old/notes.md", "old/1.jpg.part"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "store" / "segment" / "4").unlink()
    (root / "old" / "1.jpg.part").unlink()
    assert runs.none_more()


def test_reading_files_starts_no_run(root: Path, runs: Runs) -> None:
    assert (root / "old" / "1.jpg").read_bytes() == b"1"
    assert [path.name for path in (root / "old").iterdir()] == ["1.jpg"]
    assert runs.none_more()


def test_a_folder_behind_a_link_is_watched_by_the_name_it_was_given(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    runs, box = Runs(), ChangeQueue(of_folder(link), debounce=0.3, max_wait=5)
    with file_events(link, box, suffixes=SUFFIXES, ignored=[link / "store"]), watching(runs, queue=box):
        assert runs.next() == (None, set())
        (root / "old" / "1.jpg").unlink()
        (root / "store").mkdir()
        (root / "store" / "x.jpg").write_bytes(b"x")
        assert runs.gather({"old"}, {to_uri(link / "old" / "1.jpg")})


def test_a_change_right_after_the_watch_began_is_seen(root: Path) -> None:
    clock = Clock()
    queue = ChangeQueue(of_folder(root), debounce=0, max_wait=0, clock=clock)
    with file_events(root, queue, suffixes=SUFFIXES):
        (root / "at-once.jpg").write_bytes(b"x")
        seen = threading.Event()
        for _ in range(300):
            if queue.waiting or seen.wait(0.1):
                break
    assert queue.take() == Extent(frozenset({""}))


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match=r"cannot watch .*/nowhere: .*set an interval instead"),
        file_events(tmp_path / "nowhere", ChangeQueue(folder_of), suffixes=SUFFIXES),
    ):
        pass


def test_watching_a_folder_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with (
        pytest.raises(MissingExtra, match=r"watching a folder needs watchfiles: pip install 'clip-qdrant\[worker\]'"),
        file_events(tmp_path, ChangeQueue(folder_of), suffixes=SUFFIXES),
    ):
        pass


def test_a_store_that_is_away_at_the_start_is_waited_for_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(stall=0.5)
    answers: Iterator[Exception | None] = iter([StoreUnavailable("away"), StoreUnavailable("still away"), None])
    seen: list[str | None] = []

    def ask() -> None:
        seen.append(health.not_live() or health.not_ready())
        if (error := next(answers)) is not None:
            raise error

    wait_for_store(ask, stop=threading.Event(), health=health, pauses=(0.6, 0.6))
    assert seen == ["the model is not loaded yet", "away", "still away"]
    assert caplog.messages[0] == "the store is away and is asked again in 0.6 s: away"


def test_waiting_for_a_store_ends_with_the_worker_and_with_other_errors() -> None:
    stop = threading.Event()

    def ask() -> None:
        stop.set()
        raise StoreUnavailable("away")

    wait_for_store(ask, stop=stop, pauses=(3600, 3600))
    with pytest.raises(ZeroDivisionError):
        wait_for_store(lambda: 1 / 0, stop=threading.Event())
