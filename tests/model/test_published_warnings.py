"""Nobody is warned of what a published model has no part in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from published import PUBLISHED, save_published

from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.published.load import load_published
from clip_qdrant.model.published.save import save_transformers
from clip_qdrant.model.saving import save_checkpoint


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What transformers warns of."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    listener, of_transformers = Listener(logging.WARNING), logging.getLogger("transformers")
    of_transformers.addHandler(listener)
    yield told
    of_transformers.removeHandler(listener)


@pytest.mark.parametrize("name", PUBLISHED)
def test_loading_and_saving_give_no_warning_of_transformers(name: str, warned: list[str], tmp_path: Path) -> None:
    folder = save_published(name, tmp_path / "model")
    warned.clear()
    vars(logging.Logger)["warning_once"].cache_clear()  # what it has said before
    checkpoint = load_published(str(folder))
    save_transformers(checkpoint, tmp_path / "saved")
    save_checkpoint(checkpoint, tmp_path / "saved.pt")
    load_checkpoint(tmp_path / "saved.pt")
    assert not warned
