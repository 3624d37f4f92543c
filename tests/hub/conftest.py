"""A hub on loopback, which the hub's library takes for its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, use_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub().running() as hub:
        use_hub(monkeypatch, hub.site.url, tmp_path / "hub")
        yield hub
