"""The examples of docs/search-api.md run against a service, and name what there is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import write_image
from served_photos import NAME, add_photos

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.service.bodies.queries import KINDS
from clip_qdrant.service.ingest.rules import IngestRules
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service

PAGE = (Path(__file__).parents[2] / "docs" / "search-api.md").read_text(encoding="utf-8")
USUAL = "http://localhost:8080"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    write_image(folder / "srv" / "sea.jpg", "blue")
    write_image(folder / "cat.jpg", "red", (200, 150))
    return folder


@pytest.fixture(scope="module")
def options(folder: Path) -> ServiceOptions:
    return ServiceOptions(collection=NAME, ingest=IngestRules(places=(str(folder / "srv"),)))


@pytest.fixture(scope="module")
def photos(service: Service) -> ImageCollection:
    return add_photos(service.client, service.embedder)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(
    url: str,
    photos: ImageCollection,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {}
    for block in blocks("python"):
        here = block.replace(USUAL, url).replace("/srv/photos", str(folder / "srv"))
        exec(compile(here, "search-api.md", "exec"), namespace)
    namespace["photos"].close()

    assert [hit.id for hit in namespace["dress"]] == [hit.id for hit in namespace["same"]] != []
    assert photos.count("animal exists") == 9  # of those that were there
    out = capsys.readouterr().out
    assert "done 1 {}" in out
    assert "1 done" in out


def test_the_requests_run(http: httpx.Client, photos: ImageCollection) -> None:
    for block in blocks("http"):
        line, _, body = block.partition("\n")
        method, path = line.split()
        assert http.request(method, path, json=json.loads(body)).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_uploads_run(url: str, photos: ImageCollection, folder: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    for line in lines:
        program, *arguments = shlex.split(line.replace(USUAL, url))
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, check=True)
        told = json.loads(done.stdout)
        assert told.get("hits") or told.get("images"), line


def test_every_option_and_every_path_is_named(http: httpx.Client) -> None:
    for name in (*SearchOptions.__dataclass_fields__, *KINDS):
        assert f"`{name}`" in PAGE or f'"{name}"' in PAGE, name
    paths = http.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if {"search", "counts", "labels", "ingest"} & {
            tag for operation in methods.values() for tag in operation["tags"]
        }:
            assert path.replace("{run_id}", "{id}") in PAGE, path
