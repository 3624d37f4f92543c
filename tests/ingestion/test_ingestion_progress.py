"""The progress bar shows what a run tells, and nothing where there is no terminal."""

from __future__ import annotations

import io
import threading
from collections.abc import Collection, Iterator
from itertools import islice

import pytest
from fakes import FakeEmbedder, MadeSource
from qdrant_client.client_base import QdrantBase
from rich.console import Console

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError
from clip_qdrant_ingestion import Page, Progress, ingest
from clip_qdrant_ingestion.cli.progress import ingest_progress


def drawn(*, terminal: bool, events: list[Progress]) -> str:
    file = io.StringIO()
    with ingest_progress(Console(file=file, force_terminal=terminal, width=160, color_system=None)) as show:
        for event in events:
            show(event)
    return file.getvalue()


def test_a_terminal_shows_speed_bottleneck_unchanged_and_quarantined() -> None:
    event = Progress(
        listed=1000,
        added=300,
        updated=20,
        payload_updated=4,
        skipped=100,
        quarantined=7,
        seconds=10.0,
        stages={"read": 0.1, "embed": 0.93},
    )
    text = drawn(terminal=True, events=[event])
    for part in (
        "431 of 1,000+",
        "more than 17 s left",
        "32.0 images/s",
        "embed 93% busy",
        "100 unchanged",
        "7 quarantined",
    ):
        assert part in text


def test_after_the_listing_the_total_is_known() -> None:
    text = drawn(terminal=True, events=[Progress(listed=1000, added=300, seconds=10.0, listing=False)])
    assert "300 of 1,000 " in text
    assert "about 23 s left" in text
    assert "quarantined" not in text


def test_without_a_terminal_nothing_is_drawn() -> None:
    assert drawn(terminal=False, events=[Progress(listed=1000, added=300)]).strip() == ""


def test_how_many_there_are_is_known_before_they_are_read(memory_client: QdrantBase) -> None:
    """The listing does not wait for the images: of 500 none is read yet when all are listed."""
    listed = threading.Event()
    source = MadeSource(500, readers=2, before_read=lambda item, attempt: listed.wait(30) and None)
    events: list[Progress] = []

    def progress(event: Progress) -> None:
        events.append(event)
        if not event.listing:
            listed.set()

    collection = ImageCollection("photos", FakeEmbedder(), memory_client)
    assert ingest(source, collection, progress=progress, batch_size=8).added == 500
    first = next(event for event in events if not event.listing)
    assert (first.listed, first.done) == (500, 0)


def test_what_was_listed_before_a_listing_broke_off_is_stored(memory_client: QdrantBase) -> None:
    class Breaking(MadeSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            yield from islice(super().pages(folders), 4)
            raise SourceError("the bucket does not answer", transient=True)

    collection = ImageCollection("photos", FakeEmbedder(), memory_client)
    with pytest.raises(SourceError, match="does not answer"):
        ingest(Breaking(500, readers=2), collection, batch_size=8)
    assert collection.count() > 100
