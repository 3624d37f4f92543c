"""What `fit` and `clip-qdrant train` write carries its encoders, and so runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import coloured_pairs
from tiny_published import tiny_published

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import ExportError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import take_graphs
from clip_qdrant_training import Pair, fit
from clip_qdrant_training.loop import validation

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 4, "freeze_encoders": True, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return coloured_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    return tiny_published("clip")


def test_a_model_trained_from_a_published_one_runs_on_onnx_runtime_as_it_is_written(
    start: Checkpoint,
    pairs: list[Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = fit(pairs, start=start, output=tmp_path / "mine.pt", run=tmp_path / "run", **OPTIONS)

    assert f"adding its encoders to {tmp_path / 'mine.pt'}" in caplog.text
    monkeypatch.setattr(validation, "make_graphs", None)  # and nothing is made of it any more
    there = ClipEmbedder.load(tmp_path / "mine.pt", runtime="onnx", cache_dir=tmp_path / "cache")
    rows = ClipEmbedder.from_checkpoint(trained, device="cpu").embed_texts(["red", "a blue one"])
    np.testing.assert_allclose(there.embed_texts(["red", "a blue one"]), rows, atol=1e-4)
    assert not list((tmp_path / "cache").glob("exports/*.pt"))
    best = load_checkpoint(tmp_path / "run" / "best.pt")
    assert best.fingerprint() == trained.fingerprint() == there.fingerprint
    assert take_graphs(best) is not None

    fit(pairs, start=best, output=tmp_path / "again.pt", **OPTIONS)  # which brings its own along
    assert take_graphs(load_checkpoint(tmp_path / "again.pt")) is not None


@pytest.mark.parametrize("output", [True, False])
def test_what_cannot_be_exported_is_written_without_and_said_so(
    start: Checkpoint,
    pairs: list[Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    output: bool,
) -> None:
    asked: list[Checkpoint] = []

    def refuse(checkpoint: Checkpoint) -> None:
        asked.append(checkpoint)
        raise ExportError("the image encoder does not export")

    monkeypatch.setattr(validation, "make_graphs", refuse)
    trained = fit(pairs, start=start, output=tmp_path / "mine.pt" if output else None, **OPTIONS)

    assert len(asked) == output  # nothing is made for a file that is not asked for
    assert ("runs on torch alone: the image encoder does not export" in caplog.text) is output
    if output:
        assert load_checkpoint(tmp_path / "mine.pt").fingerprint() == trained.fingerprint()
