"""A checkpoint file read without torch: the same values as torch reads, and nothing that torch would refuse."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_checkpoint

from clip_qdrant.checkpoint_file.read import CheckpointFile
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint

DIGEST = "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81"  # of the bytes 1, 2, 3


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def content(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("good") / "good.pt"
    graph = {"graph": torch.tensor([1, 2, 3], dtype=torch.uint8), "sha256": "", "weights": ["logit_scale"]}
    about = {
        "format": 1,
        **tiny.structure(),
        "dim": 32,
        "vocabulary": tiny.model.vocabulary,
        "made_with": "a test",
    }
    save_checkpoint(tiny, path, graphs=lambda _checkpoint: {**about, "image": graph, "text": graph})
    return dict(torch.load(path, weights_only=True))


def refuse(path: Path, content: Any) -> str:
    """What is said of a file with this content."""
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        CheckpointFile(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def with_weight(content: dict[str, Any], tensor: object) -> dict[str, Any]:
    return {**content, "weights": {**content["weights"], "logit_scale": tensor}}


def test_it_reads_what_torch_reads(tmp_path: Path, tiny: Checkpoint, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "model.pt")
    file = CheckpointFile(tmp_path / "model.pt")
    for name in ("preprocessing", "tokenization", "tokenizer", "trained_on", "calibration", "prompts"):
        assert getattr(file.description, name) == getattr(tiny, name)
    assert file.description.config == tiny.config
    assert file.weights.keys() == content["weights"].keys()
    assert all(np.array_equal(file.read_weight(name), value.numpy()) for name, value in content["weights"].items())
    assert file.graphs is not None
    assert file.graphs.text.weights == ("logit_scale",)
    assert file.meta() == tiny.meta()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6, dtype=torch.float32).view(2, 3),
        torch.arange(6, dtype=torch.float64),
        torch.linspace(-3, 3, 7).half(),
        torch.linspace(-3e30, 3e30, 7).bfloat16(),
        torch.tensor([-1, 2], dtype=torch.int64),
        torch.tensor([-1, 2], dtype=torch.int8),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.tensor(2.5),
        torch.zeros(0, 3),
        torch.arange(10.0)[3:7],
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_tensors_of_every_kind_are_read_as_they_are(
    tmp_path: Path, content: dict[str, Any], tensor: torch.Tensor
) -> None:
    torch.save(with_weight(content, tensor), tmp_path / "model.pt")
    read = CheckpointFile(tmp_path / "model.pt").read_weight("logit_scale")
    expected = tensor.detach().float() if tensor.is_floating_point() else tensor
    assert read.dtype == expected.numpy().dtype
    assert np.array_equal(read, expected.numpy())


def test_its_fingerprint_is_that_of_the_network(tmp_path: Path, tiny: Checkpoint, content: dict[str, Any]) -> None:
    good = {**content, "graphs": {**content["graphs"]}}
    for side in ("image", "text"):
        good["graphs"][side] = {**content["graphs"][side], "sha256": DIGEST}
    torch.save(good, tmp_path / "model.pt")
    CheckpointFile(tmp_path / "model.pt").check()
    torch.save(with_weight(good, torch.tensor(0.5)), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="weights are not those"):
        CheckpointFile(tmp_path / "model.pt").check()
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="its image graph is not what was written"):
        CheckpointFile(tmp_path / "model.pt").check()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**9),
        torch.zeros(3, 2).t(),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
        [1.0],
        "text",
    ],
    ids=["repeated", "transposed", "sparse", "meta", "complex", "a list", "a text"],
)
def test_weights_that_are_no_plain_rows_of_numbers_are_refused(
    tmp_path: Path, content: dict[str, Any], tensor: object
) -> None:
    assert "can be read safely" in refuse(tmp_path / "model.pt", with_weight(content, tensor))


def test_many_weights_on_the_same_few_bytes_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    shared = torch.zeros(1 << 20)
    many = {**content, "weights": {f"{n}": shared for n in range(200)}}
    assert "of which 4,194,304 are there" in refuse(tmp_path / "model.pt", many)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "value", [Evil(), {1, 2}, b"bytes", OrderedDict, torch.float32, 1 + 2j, bytearray(b"x"), 10**700, object()]
)
def test_a_pickle_that_does_more_than_describe_is_refused(
    tmp_path: Path, content: dict[str, Any], value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refuse(tmp_path / "model.pt", {**content, "metrics": {"recall": value}})
    assert "can be read safely" in told or "holds a _Function" in told  # a function that nothing calls
    assert not (tmp_path / "pwned").exists()


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Puts another pickle into a file."""
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\x80\x02.",
        lambda data: b"\x80\x02(((((u.",
        lambda data: b"\x80\x02}h\xff.",
        lambda data: b"\x80\x02X\xff\xff\xff\xff.",
        lambda data: b"\x80\x02]]a}bR.",
        lambda data: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        lambda data: b"\x80\x02X\x01\x00\x00\x00aQ.",
        lambda data: b"\x80\x02]q\x00h\x00a.",
        lambda data: pickle.dumps({"format": 1}, protocol=5),
        lambda data: pickle.dumps({"format": 1}, protocol=0),
        lambda data: data.replace(b"FloatStorage", b"EvilStorage!"),
    ],
)
def test_a_pickle_that_is_damaged_is_refused(
    tmp_path: Path, content: dict[str, Any], change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match="can be read safely"):
        CheckpointFile(path)


def test_numbers_beyond_what_is_stored_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    torch.save(with_weight(content, torch.zeros(5)), path)
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data[:-4] if "/data/" in name and len(data) == 20 else data)
    with pytest.raises(CheckpointError, match="lacks numbers of a tensor"):
        CheckpointFile(path)


def test_compressed_records_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="compressed records"):
        CheckpointFile(path)


def test_graphs_that_need_weights_that_are_not_there_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    text = {**content["graphs"]["text"], "weights": ["nowhere"]}
    told = refuse(tmp_path / "model.pt", {**content, "graphs": {**content["graphs"], "text": text}})
    assert "need weights that are not there: nowhere" in told
    for broken in ({"format": 1}, {**content["graphs"], "text": 7}, {**content["graphs"], "dim": "many"}):
        assert "graphs are not whole" in refuse(tmp_path / "model.pt", {**content, "graphs": broken})


def test_a_file_stays_what_it_was_when_it_was_opened(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    torch.save(with_weight(content, torch.tensor(1.5)), path)
    file = CheckpointFile(path)
    torch.save(with_weight(content, torch.tensor(9.5)), tmp_path / "other.pt")
    (tmp_path / "other.pt").replace(path)
    assert file.read_weight("logit_scale") == 1.5
    file = CheckpointFile(path)
    path.write_bytes(path.read_bytes()[:1000])  # in place, as cp does
    with pytest.raises(CheckpointError, match="cut off"):
        file.read_weight("logit_scale")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, content: dict[str, Any], share: float) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=str(path)):
        CheckpointFile(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at nowhere\.pt"):
        CheckpointFile("nowhere.pt")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        CheckpointFile(tmp_path)


def test_a_tokenizer_that_does_harm_is_refused_before_it_is_used(tmp_path: Path, content: dict[str, Any]) -> None:
    rule = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10_000}
    harmful = json.dumps({**json.loads(content["tokenizer"]), "normalizer": rule})
    graphs = dict(content["graphs"])
    for side in ("image", "text"):
        graphs[side] = {**graphs[side], "sha256": DIGEST}
    torch.save({**content, "tokenizer": harmful, "graphs": graphs}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="makes 10,000 characters of one"):
        CheckpointFile(tmp_path / "model.pt").check()
    torch.save({**content, "graphs": {**graphs, "vocabulary": 3}}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="knows only the first 3"):
        CheckpointFile(tmp_path / "model.pt").check()


def test_graphs_go_along_with_new_weights_and_not_with_another_network(
    tmp_path: Path, tiny: Checkpoint, content: dict[str, Any]
) -> None:
    def fail(_checkpoint: Checkpoint) -> Mapping[str, Any]:
        pytest.fail("exports again")

    torch.save(content, tmp_path / "start.pt")
    start = load_checkpoint(tmp_path / "start.pt")
    trained = replace(start, model=tiny_checkpoint(seed=1).model)
    assert start.graphs is not None
    assert {name: start.graphs[name] for name in trained.structure()} == trained.structure()
    save_checkpoint(trained, tmp_path / "trained.pt", graphs=fail)
    file = CheckpointFile(tmp_path / "trained.pt")
    assert file.description.fingerprint == trained.fingerprint() != start.fingerprint()
    assert file.graphs is not None
    larger = replace(start, preprocessing=replace(start.preprocessing, resize="crop"))
    save_checkpoint(larger, tmp_path / "larger.pt")
    assert CheckpointFile(tmp_path / "larger.pt").graphs is None
