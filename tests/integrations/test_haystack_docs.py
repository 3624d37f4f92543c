"""The examples of docs/haystack.md run, one after the other, with the bundled model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fakes import write_image

pytest.importorskip("haystack", reason="haystack-ai is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "haystack.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photos" / "cat.jpg", "red", size=(300, 200))
    write_image(tmp_path / "photos" / "boat.jpg", "blue", size=(300, 200))
    namespace: dict[str, Any] = {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)):
        exec(compile(block, f"docs/haystack.md, example {number + 1}", "exec"), namespace)
    answer, answers = namespace["answer"], namespace["answers"]
    assert answer.text.startswith("Answer from these images alone: What do the boats have in common?")
    request = {"find": {"query": "a boat"}, "ask": {"question": "why?"}}
    (message,) = answers.run(request, include_outputs_from={"ask"})["ask"]["prompt"]
    assert len(message.images) == 2
    for store in ("store", "photos"):
        namespace[store].close()

    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines} == {"cat.jpg", "boat.jpg"}
