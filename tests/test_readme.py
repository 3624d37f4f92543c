"""The README holds: its code and its command lines run, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes import COLOURS, write_image

import clip_qdrant
from clip_qdrant.cli.app import app
from clip_qdrant.cli.wiring import Options

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LOOK = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)[-1]
COMMANDS = re.findall(r"^\$ clip-qdrant (.+)$", "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL)), re.M)


@pytest.mark.slow
def test_the_first_example_runs_with_the_bundled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, colour in {"cat.jpg": "red", "dog.png": "blue", "sunset.jpg": "yellow"}.items():
        write_image(tmp_path / name, colour, size=(300, 200))
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1  # the filter keeps one of the two
    assert re.fullmatch(r"-?0\.\d{3} file:///.*/cat\.jpg \{'album': 'pets', 'year': 2024\}", lines[0])


@pytest.mark.slow
def test_the_ingestion_example_runs_with_the_bundled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for colour in ("red", "green"):
        write_image(tmp_path / "gallery" / f"{colour}.png", colour, size=(300, 200))
    exec(compile(BLOCKS[1], "README.md", "exec"), {})
    plan, report = capsys.readouterr().out.splitlines()
    assert plan.startswith("Plan(new=2, changed=0,")
    assert re.fullmatch(r"2 0 0 \(\) (read|decode|embed|write|plan)", report)


@pytest.mark.slow
def test_the_training_examples_run_and_their_file_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIP_QDRANT_CACHE_DIR", str(tmp_path / "cache"))
    for split in ("train", "dev"):
        rows = []
        for colour in COLOURS:
            path = write_image(tmp_path / split / f"{colour}.png", colour)
            rows.append(json.dumps({"image": os.path.relpath(path, tmp_path), "captions": [colour, f"all {colour}"]}))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    namespace: dict[str, object] = {}
    exec(compile(BLOCKS[2], "README.md", "exec"), namespace)
    trained = namespace["clip"]
    assert isinstance(trained, clip_qdrant.ClipEmbedder)
    again = clip_qdrant.ClipEmbedder.load(tmp_path / "mine.pt", runtime="torch", device="cpu")
    assert again.fingerprint == trained.fingerprint
    exec(compile(LOOK, "docs/training.md", "exec"), {})
    assert (tmp_path / "matches.png").stat().st_size > 1000


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) < 150


def test_it_leads_to_every_document() -> None:
    documents = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")]
    assert [path for path in documents if f"]({path})" not in README] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_of_a_console_block_parses(line: str) -> None:
    program: Any = typer.main.get_command(app)
    name, *arguments = shlex.split(line, comments=True)
    assert name in program.commands
    program.get_command(None, name).make_context(name, arguments, obj=Options())


def test_there_are_console_blocks_with_every_command() -> None:
    assert {line.split()[0] for line in COMMANDS} >= {"ingest", "search", "facet", "train", "evaluate", "info"}


def test_links_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if not target.startswith("http")]
    assert len(local) >= 5
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_package_root_exports_what_its_all_says() -> None:
    assert sorted(clip_qdrant.__all__) == clip_qdrant.__all__
    for name in clip_qdrant.__all__:
        assert getattr(clip_qdrant, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = clip_qdrant.nothing
