"""The examples of docs/search.md run, one after the other, and then those of the pages that go on from it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from fakes import FakeEmbedder, picture

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.collection.search.options import SearchOptions

DOCS = Path(__file__).parents[2] / "docs"
DOC = (DOCS / "search.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    embedder = FakeEmbedder()
    embedder.calibration = Calibration(LEVELS, LEVELS, 0.98)  # type: ignore[attr-defined]  # an embedder may have one
    monkeypatch.setattr(ClipEmbedder, "load", lambda: embedder)
    for seed, name in enumerate(("beach", "forest", "street")):
        picture(seed).save(tmp_path / f"{name}.jpg", quality=95)
    picture(0).resize((128, 128)).save(tmp_path / "beach-small.jpg", quality=95)
    namespace: dict[str, object] = {}
    for page in ("search.md", "relevance.md", "editing.md"):
        for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, page, "exec"), namespace)
    namespace["photos"].client.close()  # type: ignore[attr-defined]  # made by the first example

    out = capsys.readouterr().out
    assert "beach.jpg 2024-07-01 12:00:00+02:00 sea" in out
    assert "and 1 more" in out
    assert "land ['" in out
    assert "metadata.year by its integer index" in out
    assert "is likely to match, with a relevance of at least 0.980" in out
    assert "{'nature': " in out


def test_every_option_is_described() -> None:
    assert [option.name for option in fields(SearchOptions) if not re.search(rf"\b{option.name}\b", DOC)] == []
