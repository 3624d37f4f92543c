"""What commands are given: settings reach the embedder and the collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_image
from program import Program, program_in
from small_server import SmallServer, refusal
from tiny import tiny_checkpoint

from clip_qdrant.cli import wiring
from clip_qdrant.collection import images as collection
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.settings import Settings


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def test_the_settings_of_the_model_reach_the_embedder(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "tiny.pt")

    embedder = wiring.open_embedder(
        Settings(model=str(tmp_path / "tiny.pt"), runtime="torch", device="cpu", batch_size=7, max_image_pixels=99)
    )

    assert embedder.batch_size == 7
    assert embedder.limits.max_pixels == 99


def test_ingestion_waits_longer_for_a_server_than_the_other_commands(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[float] = []

    class Recorded(collection.ImageCollection):
        def __init__(self, *arguments: object, patience: float, **options: object) -> None:
            opened.append(patience)
            super().__init__(*arguments, patience=patience, **options)

    monkeypatch.setattr(collection, "ImageCollection", Recorded)
    write_image(program.folder / "photos" / "red.png", "red")

    for arguments in (["ingest", "photos"], ["search", "red"], ["facet", "image.format"]):
        assert program(*arguments).code == 0

    assert opened == [300, 2, 2]


def test_who_waits_for_a_server_is_told(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_QUIET", 0.01)
    busy, empty = refusal(503, "starting"), refusal(404, "Not found: Collection `images` doesn't exist!")

    with SmallServer(lambda number: busy if number < 2 else empty).running() as server:
        outcome = program("search", "red", "--location", server.url.replace("//", "//me:hunter2@"))

    assert outcome.code == 3
    assert outcome.err.startswith("waiting for the store at http://***@127.0.0.1")
    assert "error: there is no collection 'images' yet" in outcome.err
    assert "hunter2" not in outcome.err
