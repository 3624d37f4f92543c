"""A checkpoint is one file that says everything about itself, and a bad one is refused before it can do harm."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.prompts import Prompts

CALIBRATION = Calibration(LEVELS, LEVELS, 0.98)


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.mark.parametrize(
    "heads", [{}, {"image_head": "concept", "text_head": "residual", "concepts": 7}], ids=["projection", "concept"]
)
def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path, heads: dict[str, object]) -> None:
    prompts = Prompts(("a photo of {}",), longest=2, bias=(0.1, -0.2))
    told = {"metrics": {"recall@1": 12.5}, "prompts": prompts, "calibration": CALIBRATION}
    written = replace(tiny_checkpoint(**heads), **told)
    fingerprint = save_checkpoint(written, tmp_path / "deep" / "model.pt")
    read = load_checkpoint(tmp_path / "deep" / "model.pt")
    assert read.fingerprint() == fingerprint == written.fingerprint()
    assert read.config == written.config
    assert (read.preprocessing, read.tokenization, read.tokenizer) == (
        written.preprocessing,
        written.tokenization,
        written.tokenizer,
    )
    assert read.trained_on == ("nothing",)
    assert {name: getattr(read, name) for name in told} == told
    assert all(torch.equal(a, b) for a, b in zip(read.model.parameters(), written.model.parameters(), strict=True))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["model.pt"]


def test_a_bias_of_another_length_than_the_vectors_is_refused(tmp_path: Path, tiny: Checkpoint) -> None:
    save_checkpoint(replace(tiny, prompts=Prompts(("{}",), bias=(0.1, -0.2))), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="the bias of the model's prompts has 2 numbers, and its vectors"):
        ClipEmbedder.load(tmp_path / "model.pt", runtime="torch")


def test_a_half_precision_file_is_half_the_size_and_keeps_its_own_fingerprint(tmp_path: Path, tiny: Checkpoint) -> None:
    save_checkpoint(tiny, tmp_path / "full.pt")
    fingerprint = save_checkpoint(tiny, tmp_path / "half.pt", half=True)
    assert (tmp_path / "half.pt").stat().st_size < 0.62 * (tmp_path / "full.pt").stat().st_size
    assert load_checkpoint(tmp_path / "half.pt").fingerprint() == fingerprint != tiny.fingerprint()
    again = save_checkpoint(load_checkpoint(tmp_path / "half.pt"), tmp_path / "again.pt")
    assert again == fingerprint


def test_every_part_that_shapes_a_vector_changes_the_fingerprint(tiny: Checkpoint) -> None:
    other_weights = tiny_checkpoint(seed=1)
    other_pixels = replace(tiny, preprocessing=replace(tiny.preprocessing, resize="crop"))
    other_tokens = replace(tiny, tokenization=replace(tiny.tokenization, max_length=8))
    other_words = replace(tiny, tokenizer=tiny.tokenizer.replace("grass", "glass"))
    changed = [tiny, other_weights, other_pixels, other_tokens, other_words]
    assert len({checkpoint.fingerprint() for checkpoint in changed}) == len(changed)
    told = replace(tiny, metrics={"recall@1": 1.0}, prompts=Prompts(("{}!",)), calibration=CALIBRATION)
    assert told.fingerprint() == tiny.fingerprint()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at nowhere\.pt"):
        load_checkpoint("nowhere.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, tiny: Checkpoint, share: float) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(tiny, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path, tiny: Checkpoint) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(tiny, path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + b"x" * 100, b"PK\x03\x04 not a zip", pickle.dumps({"a": 1}), b"{}\n" * 50]
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


class _Bomb:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_in_a_file_is_never_executed(tmp_path: Path, legacy: bool) -> None:
    path, crater = tmp_path / "model.pt", tmp_path / "crater"
    torch.save({"weights": _Bomb(crater)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(path)
    assert not crater.exists()


def test_an_incomplete_a_newer_and_an_impossible_checkpoint_are_told_apart(tmp_path: Path, tiny: Checkpoint) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(tiny, path)
    content = torch.load(path, weights_only=True)

    def refused(**changes: object) -> str:
        torch.save({**content, **changes}, path)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        return str(caught.value)

    assert "format 99" in refused(format=99)
    assert "no-such-net" in refused(config={**content["config"], "image": "no-such-net"})
    assert "magic" in refused(config={**content["config"], "family": "magic"})
    weights = dict(content["weights"])
    first = weights.pop("image_projection.fc.bias")
    assert "missing: image_projection.fc.bias" in refused(weights=weights)
    assert "unknown: stranger" in refused(weights={**content["weights"], "stranger": first})
    wrong = {**content["weights"], "image_projection.fc.bias": torch.zeros(3)}
    assert "image_projection.fc.bias is (3,), expected (32,)" in refused(weights=wrong)
    text = content["config"]["text"]
    assert "list in place of weights" in refused(weights=[1])
    assert "cannot be built" in refused(config={**content["config"], "text": {**text, "num_attention_heads": 0}})
    assert "wrong shapes" in refused(config={**content["config"], "text": {**text, "vocab_size": 10**13}})
    assert "cannot be built" in refused(config={**content["config"], "dim": -1})
    assert "cannot be built" in refused(preprocessing={**content["preprocessing"], "std": [1.0, 2.0]})
    assert "damaged" in refused(tokenizer="{")
    del content["tokenizer"]
    assert "tokenizer missing" in refused()


def test_a_file_that_cannot_be_written_is_named_and_leaves_the_old_one(tmp_path: Path, tiny: Checkpoint) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(tiny, tmp_path / "file" / "model.pt")
    assert (tmp_path / "file").read_text() == "not a folder"
