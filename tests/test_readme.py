"""The README holds: its code runs, its file tree is complete, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fakes import COLOURS, write_image

import clip_qdrant

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TREE = README[README.index("## Files") :]


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
def test_the_training_example_runs_and_its_file_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "dev"):
        rows = []
        for colour in COLOURS:
            path = write_image(tmp_path / split / f"{colour}.png", colour)
            rows.append(json.dumps({"image": os.path.relpath(path, tmp_path), "captions": [colour, f"all {colour}"]}))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    namespace: dict[str, object] = {}
    exec(compile(BLOCKS[1], "README.md", "exec"), namespace)
    trained = namespace["clip"]
    assert isinstance(trained, clip_qdrant.ClipEmbedder)
    again = clip_qdrant.ClipEmbedder.load(tmp_path / "mine.pt", runtime="torch", device="cpu")
    assert again.fingerprint == trained.fingerprint


def test_the_file_tree_names_every_module_and_no_other() -> None:
    folders = ("clip_qdrant", "training", "ingestion", "benchmarks")
    modules = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"[\w]+\.py\b", TREE)) - {"fakes.py", "tiny.py", "program.py"}
    assert named == modules


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
