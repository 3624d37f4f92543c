"""The example of docs/rag.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import write_image

from clip_qdrant import ClipEmbedder, ImageCollection, connect

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rag.md"


def test_the_example_makes_parts_of_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = connect("./qdrant-data")
    photos = ImageCollection("photos", ClipEmbedder.load(), client)
    photos.add([write_image(tmp_path / "red.png", "red", (64, 64))], captions=["a red square"])
    namespace: dict[str, list[dict[str, object]]] = {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    exec(compile(block, "docs/rag.md", "exec"), namespace)

    client.close()
    namespace["photos"].client.close()  # type: ignore[attr-defined]
    assert [part["type"] for part in namespace["parts"]] == ["text", "image_url"]
