"""Runs of ingestion in processes of their own, to be killed. A run is slowed down, so that it can be hit anywhere."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from fakes import FakeEmbedder, RecordingClient, write_image
from forks import FORKS

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.errors import ClipQdrantError
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import FolderSource, Progress, Report, ingest
from clip_qdrant_ingestion.sources.share import Share

__all__ = [
    "IMAGES",
    "Contents",
    "Death",
    "RunProcess",
    "assert_same",
    "change",
    "contents",
    "make_images",
    "run",
    "same",
]

IMAGES = 72
_BATCHES_BEFORE_A_PAUSE = 6
# Every call that a run makes, and seconds that it takes longer.
_CALLS = {
    "get_collection": 0.0,
    "create_collection": 0.02,
    "create_payload_index": 0.01,
    "update_collection": 0.02,
    "retrieve": 0.0,
    "scroll": 0.02,
    "upsert": 0.05,
    "batch_update_points": 0.0,
    "overwrite_payload": 0.03,
    "count": 0.0,
    "delete": 0.05,
}


@dataclass(frozen=True, slots=True)
class Death:
    """SIGKILL, so many seconds after the start of this one of the calls of the store, counted from 1."""

    call: int
    seconds: float


@dataclass(frozen=True)
class RunProcess:
    """A run that goes on. `events` gives how many images are done, and last its Report or its error."""

    process: ForkServerProcess
    events: Connection
    go_on: Event

    @classmethod
    def start(
        cls,
        photos: Path,
        location: Path | str,
        *,
        part: tuple[int, int] | None = None,
        death: Death | None = None,
        pauses: bool = False,
    ) -> RunProcess:
        """A run that `pauses` stores a few images, and no more until `go_on` is set."""
        events, theirs = FORKS.Pipe(duplex=False)
        go_on = FORKS.Event()
        if not pauses:
            go_on.set()
        process = FORKS.Process(target=_run, args=(photos, location, part, death, theirs, go_on), daemon=True)
        process.start()
        theirs.close()
        return cls(process, events, go_on)

    def wait_until_done(self, images: int) -> None:
        """Waits until so many images are done; or the run, if they never are."""
        with contextlib.suppress(EOFError):
            while isinstance(event := self.events.recv(), int) and event < images:
                pass

    def result(self) -> Report:
        """The report of the run; raises what it raised."""
        while isinstance(event := self.events.recv(), int):
            pass
        self.process.join()
        if isinstance(event, Exception):
            raise event
        assert isinstance(event, Report)
        return event

    def killed(self) -> bool:
        """Waits until the process ended; whether it was killed."""
        self.process.join()
        self.events.close()
        return self.process.exitcode == -signal.SIGKILL


class _SlowEmbedder(FakeEmbedder):
    def __init__(self, go_on: Event) -> None:
        super().__init__()
        self._go_on = go_on
        self._batches = itertools.count()

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        if next(self._batches) >= _BATCHES_BEFORE_A_PAUSE:
            self._go_on.wait()
        return super().embed_pixels(pixels)


def _run(
    photos: Path,
    location: Path | str,
    part: tuple[int, int] | None,
    death: Death | None,
    events: Connection,
    go_on: Event,
) -> None:
    def tell(event: Progress) -> None:
        events.send(event.done)

    client = RecordingClient(connect(location))

    def slowly(seconds: float) -> None:
        if death is not None and len(client.calls) == death.call:
            threading.Timer(death.seconds, os.kill, [os.getpid(), signal.SIGKILL]).start()
        time.sleep(seconds)

    client.before = {name: partial(slowly, seconds) for name, seconds in _CALLS.items()}
    try:
        collection = ImageCollection("photos", _SlowEmbedder(go_on), client, patience=60)  # type: ignore[arg-type]
        report = run(photos, collection, part=part, batch_size=2, progress=tell)
    except ClipQdrantError as error:
        events.send(error)
    else:
        events.send(report)
    client.close()


def run(
    photos: Path,
    collection: ImageCollection,
    *,
    part: tuple[int, int] | None = None,
    batch_size: int = 4,
    progress: Any = None,
) -> Report:
    """The run whose result does not depend on who makes it, how often it is begun, and when it ends."""
    source = FolderSource(photos, name="photos")
    shared = None if part is None else Share(source, *part)
    return ingest(
        shared or source,
        collection,
        batch_size=batch_size,
        workers=2,
        delete=True,
        max_delete=0.5,
        owns=None if shared is None else shared.owns,
        progress=progress,
    )


def make_images(folder: Path) -> Path:
    """IMAGES small images in three folders, with captions and metadata."""
    for number in range(IMAGES):
        write_image(folder / f"{number % 3}" / f"{number:03}.png", (number * 2, 255 - number, 90), (12, 9))
    _describe(folder, "number")
    return folder


def change(folder: Path) -> None:
    """Of six images one has other bytes, one another name, one is gone; and all another caption."""
    for number in range(0, IMAGES, 6):
        path = folder / f"{number % 3}" / f"{number:03}.png"
        write_image(path, (number * 2, 255 - number, 200), (13, 9))
        path = folder / f"{(number + 1) % 3}" / f"{number + 1:03}.png"
        path.rename(path.with_name(f"{number + 1:03}-renamed.png"))
        (folder / f"{(number + 2) % 3}" / f"{number + 2:03}.png").unlink()
    _describe(folder, "changed")


def _describe(folder: Path, word: str) -> None:
    rows = [
        f"{path.parent.name}/{path.name},{word} {path.stem},{1900 + int(path.stem[:3])}" for path in _images(folder)
    ]
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption,year", *rows]))


def _images(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*/*.png")))


Contents = dict[str, tuple[np.ndarray, dict[str, Any]]]


def contents(client: Any) -> Contents:
    """Vector and payload of every point by uri, of a client or an embedded store; without `ingested_at`."""
    if isinstance(client, Path):
        with EdgeClient(client) as opened:
            return contents(opened)
    points, _ = client.scroll("photos", limit=10_000, with_payload=True, with_vectors=True)
    return {
        point.payload["uri"]: (np.asarray(dense_vector(point.vector)), {**point.payload, "ingested_at": None})
        for point in points
    }


def same(one: tuple[np.ndarray, dict[str, Any]], other: tuple[np.ndarray, dict[str, Any]]) -> bool:
    """Whether two points are equal, but for what a store changes when it normalises a vector anew."""
    return one[1] == other[1] and np.allclose(one[0], other[0], atol=1e-6)


def assert_same(found: Contents, expected: Contents) -> None:
    assert found.keys() == expected.keys()
    for uri, point in found.items():
        assert same(point, expected[uri]), (point, expected[uri])
