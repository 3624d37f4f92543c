"""Every file of examples/ runs as its first lines say, in a folder of its own, with few images."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import COLOURS, write_image
from s3 import new_bucket
from small_server import SmallServer

from clip_qdrant import ClipEmbedder, ImageCollection, connect
from clip_qdrant.content import sample_gallery

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DOCS = EXAMPLES.parent / "docs"
FILES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md")
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen images of the sample gallery with their metadata."""
    folder = tmp_path_factory.mktemp("gallery")
    rows = (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()[4::20]
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for row in rows:
        shutil.copy(sample_gallery() / json.loads(row)["file_name"], folder)
    return folder


@pytest.fixture(scope="module")
def bundled() -> ClipEmbedder:
    return ClipEmbedder.load()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundled: ClipEmbedder) -> Path:
    """An empty folder to run an example in. The model that they all load is loaded once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ClipEmbedder, "load", lambda: bundled)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script with arguments in that folder, and gives the lines it prints."""

    def run_script(name: str, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_script


def test_an_app_embeds_and_compares_itself(run: Run, gallery: Path) -> None:
    lines = run("embed.py", "a bird", gallery)

    scores = [float(line.split()[0]) for line in lines]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_a_search_is_filtered_and_its_facets_are_told(run: Run, gallery: Path) -> None:
    rows = [json.loads(line) for line in (gallery / "metadata.jsonl").read_text("utf-8").splitlines()]
    category = rows[0]["category"]

    lines = run("filtered_search.py", "a bird", f"category = '{category}'", gallery)

    hits = [line for line in lines if re.match(r"-?0\.\d{3} ", line)]
    assert hits
    assert all(f"'category': '{category}'" in line for line in hits)
    number = sum(row["category"] == category for row in rows)
    assert f"category: {category} ({number})" in lines
    assert any(
        "did you mean category" in line for line in run("filtered_search.py", "a bird", "categroy = 'x'", gallery)
    )


def test_images_get_labels_once(run: Run, gallery: Path) -> None:
    first, again = run("zero_shot.py", gallery), run("zero_shot.py", gallery)

    assert first[0].endswith("0 had one")
    assert again[0].endswith("14 had one")
    assert all(" food file:" in line for line in first[1:])


def test_a_collection_follows_a_bucket(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = new_bucket(monkeypatch)
    for name in ("red", "blue"):
        bucket.put(f"{name}.png", write_image(tmp_path / "made" / f"{name}.png", name).read_bytes())
    bucket.put("broken.png", b"no image")

    first = run("bucket_worker.py", bucket.url)
    bucket.delete("red.png")
    again = run("bucket_worker.py", bucket.url)

    assert first == ["2 added, 0 unchanged, 0 deleted", f"  {bucket.url}/broken.png: not an image"]
    assert again[0] == "0 added, 1 unchanged, 1 deleted"


@pytest.mark.slow
def test_a_model_is_fine_tuned_on_own_pairs(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra train is not installed")
    from tiny import tiny_checkpoint

    from clip_qdrant.model.saving import save_checkpoint

    save_checkpoint(tiny_checkpoint(), tmp_path / "tiny.pt")
    rows = [f"{write_image(tmp_path / f'{name}.png', name).name},all {name}" for name in COLOURS]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]))

    lines = run("finetune.py", "captions.csv", "mine.pt", "--start", "tiny.pt", "--epochs", 1)

    assert lines[-2].startswith("epoch 1: loss ")
    assert re.fullmatch(r"'all red' finds the image of 'all \w+'", lines[-1])
    assert (tmp_path / "mine.pt").stat().st_size > 10_000


def test_an_app_of_ones_own_searches(folder: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from starlette.testclient import TestClient

    app = runpy.run_path(str(EXAMPLES / "fastapi_app.py"))["app"]
    with TestClient(app) as client:
        for name, size in (("red", (40, 30)), ("blue", (30, 40))):
            image = write_image(folder / f"{name}.png", name, size).read_bytes()
            added = client.post("/photos", files={"image": image}, data={"caption": name})
            assert added.json() == {"added": 1, "unchanged": 0}
        found = client.get("/photos", params={"text": "red", "where": "image.width < 35"}).json()
        assert [hit["caption"] for hit in found] == ["blue"]
        refused = client.get("/photos", params={"text": "red", "where": "size < 35"})
        assert refused.status_code == 422
        assert "no indexed field size" in refused.json()["error"]
        assert client.post("/photos", files={"image": b"no image"}).status_code == 422


def test_a_question_is_answered_offline_by_a_stub_that_says_so(run: Run, gallery: Path) -> None:
    lines = run("rag.py", "a bird", "--folder", gallery)

    assert "No model was asked: this is a stub" in lines[0]
    assert "    (an image)" in lines
    assert "Question: a bird" in lines
    assert lines[-1].startswith("[")
    assert run("rag.py", "zxqv", "--folder", gallery) == ["No image is about that."]


def test_a_question_is_answered_by_a_model_that_is_shown_the_images(
    run: Run, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "The bird in [1]."}}]}
    asked: list[dict[str, Any]] = []
    import httpx

    post = httpx.post
    monkeypatch.setattr(httpx, "post", lambda url, **given: (asked.append(given["json"]), post(url, **given))[1])
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    with SmallServer(lambda _number: (200, answer, {})).running() as server:
        lines = run("rag.py", "a bird", "--folder", gallery, "--base-url", f"{server.url}/v1", "--model", "seeing")

    assert lines[0] == "The bird in [1]."
    ((method, path, headers),) = server.requests
    assert (method, path, headers["authorization"]) == ("POST", "/v1/chat/completions", "Bearer a key")
    (body,) = asked
    check_messages(body["messages"])
    kinds = [part["type"] for part in body["messages"][1]["content"]]
    assert kinds[:2] == ["text", "image_url"]
    assert body["model"] == "seeing"


def check_messages(messages: list[dict[str, Any]]) -> None:
    """By the types of OpenAI's own client."""
    pytest.importorskip("openai", reason="openai is not installed")
    from openai.types.chat import ChatCompletionSystemMessageParam, ChatCompletionUserMessageParam
    from pydantic import TypeAdapter

    TypeAdapter(ChatCompletionSystemMessageParam).validate_python(messages[0])
    TypeAdapter(ChatCompletionUserMessageParam).validate_python(messages[1])


def test_a_search_from_javascript_needs_no_model_there(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js: an example in JavaScript is not run")
    from embedding_clients import WordEmbedder
    from inferring_qdrant import run_inferring_qdrant
    from running_service import run_app

    from clip_qdrant.service.app import create_app
    from clip_qdrant.service.state import Service

    embedder = WordEmbedder()
    with (
        run_app(create_app(Service(connect(":memory:"), embedder))) as service,
        run_inferring_qdrant(tmp_path / "qdrant", f"{service}/inference") as url,
        closing(connect(url)) as client,
    ):
        photos = ImageCollection("photos", embedder, client)
        files = [write_image(tmp_path / f"{name}.png", name) for name in ("red", "green", "blue")]
        photos.add(files, captions=[path.stem for path in files])
        for asked, query in (("green", "green"), (str(files[2]), files[2])):
            script = [node, str(EXAMPLES / "server_side_embedding.mjs"), asked, "photos", url]
            done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
            hits = photos.search(query)
            assert done.stdout.splitlines() == [f"{hit.score:.3f} {hit.uri} {hit.caption}" for hit in hits]
        refused = subprocess.run([*script[:3], "nothing", url], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert "nothing" in refused.stderr


@pytest.mark.slow
def test_the_tour_runs_in_a_notebook(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept empty, or each run would be a change

    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = {cell["id"]: cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"}
    assert "text/html" in shown["search"][0]["data"]
    assert "living" in shown["labels"][0]["data"]["text/plain"]


def test_the_index_lists_every_example_with_its_command() -> None:
    assert sorted(re.findall(r"^\| \[([^\]]+)\]\(\1\)", INDEX, re.MULTILINE)) == FILES
    for name in FILES:
        (command,) = re.findall(rf"\]\({re.escape(name)}\) \|[^|]+\| `([^`]+)` \|", INDEX)
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert command in text or name.endswith(".ipynb")


@pytest.mark.parametrize("page", [EXAMPLES / "README.md", DOCS / "rag.md", DOCS / "haystack.md"])
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_short_and_names_no_folder_of_somebody(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users|tmp)/", text)
    if name not in ("rag.py", "tour.ipynb"):
        assert 10 <= len(text.splitlines()) <= 45
