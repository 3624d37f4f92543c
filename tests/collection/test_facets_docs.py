"""The examples of docs/facets.md run, over a small collection."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.records import ImageInfo, ImageRecord

DOC = (Path(__file__).parents[2] / "docs" / "facets.md").read_text(encoding="utf-8")


def test_the_examples_run(memory_client: QdrantBase, capsys: pytest.CaptureFixture[str]) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    albums = ["pets", "pets", "sea", "sea", "city"]
    records = [
        ImageRecord(
            f"urn:x:{number}",
            caption="a photo",
            metadata={"album": album, "year": 2024},
            image=ImageInfo(100 + number, 100, "PNG", 500, f"{number:064}", "0" * 16),
            taken_at=datetime(2024, 1 + number, 1),
        )
        for number, album in enumerate(albums)
    ]
    photos.writer.write(records, np.eye(16, dtype=np.float32)[: len(records)])
    names = {"photos": photos}
    for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        exec(block, names)
    out = capsys.readouterr().out
    assert "and 1 more, of 1 images" in out
    assert "[('2024-01', 1), ('2024-02', 1)] 0" in out
    assert photos.facet("taken_at.weekday").more_values == 0
