"""docs/service.md holds: its examples run, its tables say what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, write_image
from running_service import run_app

from clip_qdrant.service.app import create_app
from clip_qdrant.service.keys.file import read_key_file
from clip_qdrant.service.keys.key import SCOPES
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.problems import STATUSES, ProblemDetails
from clip_qdrant.service.settings import ServeSettings
from clip_qdrant.service.state import Service
from clip_qdrant.store.edge.client import EdgeClient

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "service.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with EdgeClient(tmp_path_factory.mktemp("store")) as client:
        yield create_app(Service(client, FakeEmbedder()))


@pytest.fixture(scope="module")
def url(app: Any) -> Iterator[str]:
    with run_app(app) as url:
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("block", blocks("sh"))
def test_the_requests_are_answered(url: str, block: str, tmp_path: Path) -> None:
    write_image(tmp_path / "cat.jpg", "red")
    for line in block.replace("\\\n", " ").splitlines():
        command = [*shlex.split(line.replace("http://127.0.0.1:8080", url)), "--fail-with-body"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    exec(block, names)

    assert names["app"].title == "clip_qdrant"
    names["service"].close()
    names["service"].client.close()


def test_the_file_of_keys_is_one(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(blocks("toml")[0])

    assert {key.name for key in read_key_file(tmp_path / "keys.toml").values()} == {"shop", "acme"}


def test_the_scopes_are_those_there_are() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", TEXT, re.MULTILINE)) == set(SCOPES)


def test_every_path_is_there(app: Any) -> None:
    paths = {path for path in re.findall(r"`(/[\w/{}.]+)`", TEXT.split("## Collections")[0]) if path != "/openapi.json"}

    assert paths - app.openapi()["paths"].keys() == set()


def test_every_status_is_told() -> None:
    told = {int(status) for row in re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE) for status in row.split(",")}

    assert {*(status for _, status in STATUSES if status != 500), 502} - told <= {501}
    assert set(re.findall(r'"(\w+)": ', blocks("json")[0])) <= ProblemDetails.model_fields.keys()


def test_limits_are_those_of_settings_and_options() -> None:
    named = set(re.findall(r"\(`(\w+)`\)", TEXT))
    defaults, settings = ServiceOptions(), ServeSettings()

    assert named - ServeSettings.model_fields.keys() == set()
    for name in ("max_body_bytes", "max_batch", "max_query_length", "max_hits", "threads", "deadline", "collection"):
        assert getattr(defaults, name) == getattr(settings, name)
    assert defaults.waiting == settings.max_waiting
