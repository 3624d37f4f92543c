"""The examples of docs/langchain.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import FakeEmbedder, picture

pytest.importorskip("langchain_qdrant", reason="langchain-qdrant is not installed")

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.integrations import langchain

DOC = (Path(__file__).parents[2] / "docs" / "langchain.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    embedder = FakeEmbedder()
    embedder.calibration = Calibration(LEVELS, LEVELS, 0.98)  # type: ignore[attr-defined]  # an embedder may have one
    monkeypatch.setattr(ClipEmbedder, "load", lambda: embedder)
    for seed, name in enumerate(("beach", "forest", "street")):
        picture(seed).save(tmp_path / f"{name}.jpg", quality=95)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        exec(compile(block, "docs/langchain.md", "exec"), namespace)
    namespace["photos"].client.close()  # type: ignore[attr-defined]  # made by the first example

    out = capsys.readouterr().out
    assert len(namespace["documents"]) == 2  # type: ignore[arg-type]  # of 2023 and later
    assert "a wide beach at noon, nobody there" in out
    assert '"album": "' in out


def test_every_name_that_the_package_exports_is_described() -> None:
    assert [name for name in langchain.__all__ if name not in DOC] == []
