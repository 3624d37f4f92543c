"""`clip-qdrant export` writes any model as one file that carries its encoders, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_checkpoint
from tiny_published import tiny_published

from clip_qdrant import torch_extra
from clip_qdrant.cli import run
from clip_qdrant.errors import ExportError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.runtime import onnx_export


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_checkpoint(tiny_checkpoint(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def make_none(checkpoint: Checkpoint) -> dict[str, Any]:
    """Instead of an export, which takes seconds and has its own tests."""
    return {"format": 1, "made_with": "a test", **checkpoint.structure()}


def test_a_model_is_written_with_graphs_and_its_fingerprint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_export, "make_graphs", make_none)
    assert run(["export", str(model), str(tmp_path / "out.pt"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    written = load_checkpoint(tmp_path / "out.pt")
    assert told == {
        "path": str(tmp_path / "out.pt"),
        "fingerprint": written.fingerprint(),
        "bytes": (tmp_path / "out.pt").stat().st_size,
        "closeness": None,
    }
    assert written.fingerprint() == load_checkpoint(model).fingerprint()
    assert written.graphs is not None


def test_a_model_that_cannot_be_exported_leaves_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_checkpoint: Checkpoint) -> dict[str, Any]:
        raise ExportError("cannot export the image encoder to ONNX, set runtime to torch: no such operator")

    monkeypatch.setattr(onnx_export, "make_graphs", fail)
    assert run(["export", str(model), str(tmp_path / "out.pt")]) != 0
    assert "no such operator" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


def test_without_the_extra_it_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch_extra, "_PACKAGES", ("a_package_that_nobody_has",))
    assert run(["export", str(model), str(tmp_path / "out.pt")]) == 1
    assert "pip install 'clip-qdrant[torch]'" in capsys.readouterr().err


def test_a_model_of_transformers_is_written_as_the_folder_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tiny_published("clip"), tmp_path / "clip.pt")
    command = ["export", str(tmp_path / "clip.pt"), str(tmp_path / "folder"), "--layout", "transformers"]
    assert run(command) == 0
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    assert names >= {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"}
    assert run([*command, "--precision", "float16"]) == 2
    assert "--precision is for a checkpoint" in capsys.readouterr().err
