"""The examples of docs/llama-index.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import FakeEmbedder, picture

from clip_qdrant import ClipEmbedder
from clip_qdrant.integrations import llama_index

DOC = (Path(__file__).parents[2] / "docs" / "llama-index.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    embedder = FakeEmbedder()
    monkeypatch.setattr(ClipEmbedder, "load", lambda: embedder)
    for seed, name in enumerate(("beach", "forest", "street")):
        picture(seed).save(tmp_path / f"{name}.jpg", quality=95)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        exec(compile(block, "docs/llama-index.md", "exec"), namespace)
    namespace["photos"].client.close()  # type: ignore[attr-defined]  # made by the first example

    assert "beach.jpg a beach at noon" in capsys.readouterr().out
    assert len(namespace["nodes"]) == 2  # type: ignore[arg-type]


def test_every_name_that_the_package_exports_is_described() -> None:
    assert [name for name in llama_index.__all__ if name not in DOC] == []
