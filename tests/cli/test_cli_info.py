"""`clip-qdrant info`: works where nothing is there yet, shows what is in force, hides secrets, tells what is broken."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from fakes import FakeEmbedder, solid_image, write_image
from ports import unused_port
from program import Program, program_in
from qdrant_client import models

from clip_qdrant.cli import wiring
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import CheckpointError
from clip_qdrant.store.edge.client import EdgeClient


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def test_where_nothing_is_there_yet_it_says_so_and_makes_nothing(program: Program) -> None:
    outcome = program("info")

    assert outcome.code == 0
    assert "no collections in ./qdrant-data yet: clip-qdrant ingest FOLDER" in outcome.out
    assert list(program.folder.iterdir()) == []


def test_it_shows_settings_with_where_they_come_from(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_WORKERS", "3")

    settings = program("info", "--location", "here", "--json").json["settings"]

    assert settings["workers"] == {"value": "3", "from": "environment"}
    assert settings["location"] == {"value": "here", "from": "given"}
    assert settings["runtime"] == {"value": "auto", "from": "default"}


def test_it_shows_versions_and_the_model(program: Program) -> None:
    document = program("info", "--json").json

    assert document["versions"]["qdrant-client"] == version("qdrant-client")
    assert document["model"]["fingerprint"] == program.embedder.fingerprint
    assert document["model"]["dim"] == program.embedder.dim


def test_it_counts_the_images_of_each_collection(program: Program) -> None:
    for name in ("a.png", "b.png"):
        write_image(program.folder / "photos" / name, "red")
    program("ingest", "photos", "--collection", "pets")
    theirs = FakeEmbedder(name="theirs")
    theirs.name = "hf:their/model"
    with EdgeClient("qdrant-data") as client:
        client.create_collection("foreign", models.VectorParams(size=4, distance=models.Distance.COSINE))
        ImageCollection("theirs", theirs, client).add([solid_image("red")])

    collections = {row["name"]: row for row in program("info", "--json").json["store"]["collections"]}
    table = program("info").out

    assert collections["pets"]["images"] == 2
    assert collections["pets"]["fingerprint"] == program.embedder.fingerprint
    assert collections["foreign"] == {"name": "foreign", "images": 0}
    assert "this model" in next(line for line in table.splitlines() if "pets" in line)
    assert f"hf:their/model {theirs.fingerprint[:12]}" in next(line for line in table.splitlines() if "theirs" in line)
    assert "not made by clip-qdrant" in next(line for line in table.splitlines() if "foreign" in line)


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_secrets_do_not_show(program: Program, monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
    monkeypatch.setenv("CLIP_QDRANT_API_KEY", "hunter2")

    outcome = program("info", "--location", "http://me:hunter2@localhost:1", *option)

    assert "hunter2" not in outcome.out + outcome.err
    assert "***@localhost:1" in outcome.out


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_shown_with_the_rest(program: Program) -> None:
    location = f"http://127.0.0.1:{unused_port()}"

    outcome = program("info", "--location", location, "--json")

    assert outcome.code == 3
    assert "cannot be reached" in outcome.json["store"]["error"]
    assert outcome.json["model"]["fingerprint"] == program.embedder.fingerprint


def test_a_model_that_cannot_be_read_is_shown_with_the_rest(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: object) -> None:
        raise CheckpointError("cannot read the model x.pt: No such file or directory")

    monkeypatch.setattr(wiring, "open_embedder", broken)

    outcome = program("info")

    assert outcome.code == 4
    assert "cannot read the model x.pt" in outcome.out
    assert "no collections in" in outcome.out
