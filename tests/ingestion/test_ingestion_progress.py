"""The progress bar shows what a run tells, and nothing where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from clip_qdrant_ingestion import Progress
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
    for part in ("431 of 1,000+", "32.0 images/s", "embed 93% busy", "100 unchanged", "7 quarantined"):
        assert part in text


def test_after_the_listing_the_total_is_known() -> None:
    text = drawn(terminal=True, events=[Progress(listed=1000, added=300, seconds=10.0, listing=False)])
    assert "300 of 1,000 " in text
    assert "quarantined" not in text


def test_without_a_terminal_nothing_is_drawn() -> None:
    assert drawn(terminal=False, events=[Progress(listed=1000, added=300)]).strip() == ""
