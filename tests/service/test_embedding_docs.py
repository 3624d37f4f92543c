"""The examples of docs/embedding-endpoints.md run, and its table names the paths that there are."""

from __future__ import annotations

import base64
import gc
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from embedding_clients import WordEmbedder, data_url, png
from inferring_qdrant import run_inferring_qdrant

from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect

DOC = (Path(__file__).parents[2] / "docs" / "embedding-endpoints.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    yield Service(connect(":memory:"), WordEmbedder(384))


def test_the_python_runs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "dog.png").write_bytes(png("yellow"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with run_inferring_qdrant(tmp_path / "qdrant", f"{url}/inference") as qdrant, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # examples close nothing
        for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
            exec(block.replace("http://localhost:8080", url).replace("http://localhost:6333", qdrant), names)
        out = capsys.readouterr().out
        hits = names["hits"].points
        names.clear()
        gc.collect()

    assert out.startswith("2 vectors, 8 tokens\n")
    assert [hit.id for hit in hits] == [1]


def test_the_requests_are_answered(http: httpx.Client) -> None:
    blocks = re.findall(r"```http\nPOST (\S+)\n(.*?)```", DOC, re.DOTALL)
    for path, body in blocks:
        image = base64.b64encode(png("blue")).decode()
        answer = http.post(path, json=json.loads(body.replace("DATA_URL", data_url("blue")).replace("BASE64", image)))

        assert answer.status_code == 200, (path, answer.text)
    assert len(blocks) == 5


def test_the_paths_are_there(http: httpx.Client) -> None:
    paths = set(re.findall(r"^\| [A-Z][^|]+\| `(/\S+)`", DOC, re.MULTILINE))

    assert paths == {"/v1/embeddings", "/v2/embed", "/v1/multimodalembeddings", "/predict", "/inference"}
    assert paths <= http.get("/openapi.json").json()["paths"].keys()
