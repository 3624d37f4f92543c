"""The examples of docs/haystack.md run, one after the other, with the bundled model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import write_image

pytest.importorskip("haystack", reason="haystack-ai is not installed: it needs Python 3.11")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "haystack.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photos" / "cat.jpg", "red", size=(300, 200))
    write_image(tmp_path / "photos" / "boat.jpg", "blue", size=(300, 200))
    namespace: dict[str, object] = {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)):
        exec(compile(block, f"docs/haystack.md, example {number + 1}", "exec"), namespace)
    namespace["store"].close()  # type: ignore[attr-defined]  # made by the first example

    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines} == {"cat.jpg", "boat.jpg"}
