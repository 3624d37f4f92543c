"""Exports in less than float32: what they cost is measured, and each has a fingerprint of its own."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import exported_checkpoint, make_export

from clip_qdrant.cli import run
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.errors import CheckpointError, ConfigError
from clip_qdrant.export import PRECISIONS, Export, export_model
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.runtime import onnx_export

TEXTS = ["a photo of a dog", "two cats", "red square on the grass", "a"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with graphs, so that each export of it needs no other."""
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(exported_checkpoint(), folder / "plain.pt")
    return Path(shutil.copy(make_export(folder / "plain.pt"), folder / "tiny.pt"))


@pytest.fixture(scope="module")
def exports(model: Path) -> dict[str, Export]:
    return {name: export_model(str(model), model.parent / f"{name}.pt", precision=name) for name in PRECISIONS}


def test_float32_changes_nothing(model: Path, exports: dict[str, Export]) -> None:
    assert exports["float32"].fingerprint == ClipEmbedder.load(model).fingerprint
    assert exports["float32"].closeness is None


def test_each_precision_has_a_fingerprint_of_its_own(exports: dict[str, Export]) -> None:
    assert len({export.fingerprint for export in exports.values()}) == len(PRECISIONS)
    for export in exports.values():
        assert ClipEmbedder.load(export.path, runtime="onnx").fingerprint == export.fingerprint


def test_files_become_smaller(exports: dict[str, Export]) -> None:
    for name in ("float16", "bfloat16", "int8"):
        assert exports[name].bytes < exports["float32"].bytes


@pytest.mark.parametrize(("name", "least"), [("float16", 0.9999), ("bfloat16", 0.999), ("int8", 0.98)])
def test_what_is_told_of_its_nearness_is_so(model: Path, exports: dict[str, Export], name: str, least: float) -> None:
    one, other = (ClipEmbedder.load(path, runtime="onnx") for path in (model, exports[name].path))
    cosines = (one.embed_texts(TEXTS) * other.embed_texts(TEXTS)).sum(axis=1)
    assert cosines.min() > least
    assert not np.array_equal(one.embed_texts(TEXTS), other.embed_texts(TEXTS))
    near = exports[name].closeness
    assert near is not None
    assert least < near.text_cosine <= near.text_cosine_mean <= 1.000001
    assert least < near.image_cosine <= near.image_cosine_mean <= 1.000001
    assert other.metrics[f"{name}_image_cosine"] == near.image_cosine
    assert 0 <= near.recall <= 100


def test_graphs_that_a_file_carries_are_not_made_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_checkpoint: Checkpoint) -> dict[str, Any]:
        raise AssertionError("an export was made")

    monkeypatch.setattr(onnx_export, "make_graphs", fail)
    assert export_model(str(model), tmp_path / "out.pt", precision="float16").bytes < model.stat().st_size


def test_int8_is_refused_on_torch_by_a_name_of_what_to_take(model: Path, exports: dict[str, Export]) -> None:
    original = ClipEmbedder.load(model).fingerprint[:12]
    with pytest.raises(CheckpointError, match=f"int8, which runs on ONNX Runtime alone.*{original}"):
        ClipEmbedder.load(exports["int8"].path, runtime="torch")


def test_the_command_tells_what_it_costs(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(model), str(tmp_path / "out.pt"), "--precision", "int8"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "cosine to float32 over pictures of the sample gallery" in told
    assert "recall@1 by title" in told


def test_an_export_sets_up_no_log(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # pytest has some
    export_model(str(model), tmp_path / "int8.pt", precision="int8")
    assert root.handlers == []


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision is 'int4'"):
        export_model("bundled", tmp_path / "out.pt", precision="int4")  # type: ignore[arg-type]
