"""Encoders for ONNX Runtime: from a checkpoint that carries its graphs, or exported once, found again, made anew."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import exported_checkpoint, make_export, put_export
from forks import start_fork
from tiny import pictures

from clip_qdrant import ClipEmbedder, torch_extra
from clip_qdrant.checkpoint_file.read import CheckpointFile
from clip_qdrant.cli.failures import FAILURE, exit_code
from clip_qdrant.errors import CheckpointError, DiskFull, ExportError, MissingExtra
from clip_qdrant.model import saving
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.runtime import onnx_export

TEXTS = ["a photo of a dog", "red", "two cat on the grass circle square", "blue blue blue"]


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return exported_checkpoint()


@pytest.fixture(scope="module")
def plain(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without graphs."""
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    save_checkpoint(tiny, path)
    return path


@pytest.fixture(scope="module")
def whole(plain: Path) -> Path:
    """A checkpoint file that carries its graphs, as what is exported is."""
    return make_export(plain)


@pytest.fixture(scope="module")
def rows(plain: Path) -> np.ndarray:
    return ClipEmbedder.load(plain, runtime="torch", device="cpu").embed_texts(TEXTS)


@pytest.fixture
def cache(whole: Path, plain: Path, tmp_path: Path) -> Path:
    """A cache folder with the export of the model, to be damaged."""
    put_export(whole, plain, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def exports(whole: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The exports made from here on: seconds each, and always the same, so that a copy will do."""
    made: list[Path] = []

    def export_again(_checkpoint: object, target: Path, _graphs: object) -> str:
        made.append(target)
        time.sleep(0.1)
        shutil.copy(whole, target)
        return whole.stem

    monkeypatch.setattr(saving, "export_checkpoint", export_again)
    return made


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_extra, "_PACKAGES", ("a_package_that_nobody_has",))


def no_check(_file: CheckpointFile) -> None:
    pytest.fail("the whole file is read again")


def test_a_file_with_graphs_needs_neither_torch_nor_an_export_nor_a_cache_that_can_be_written(
    whole: Path, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch(monkeypatch)
    (tmp_path / "file").write_text("")
    clip = ClipEmbedder.load(whole, cache_dir=tmp_path / "file")
    assert clip.runtime == "onnx"
    assert np.allclose(clip.embed_texts(TEXTS), rows, atol=1e-4)
    assert clip.embed_images(pictures(2)).shape == (2, 32)


def test_graphs_add_little_to_a_file_and_hold_no_weights(whole: Path, plain: Path) -> None:
    file = CheckpointFile(whole)
    assert file.graphs is not None
    assert set(file.weights) >= {*file.graphs.image.weights, *file.graphs.text.weights}
    assert "image_encoder.model.conv_stem.weight" in file.graphs.image.weights
    assert "text_encoder.model.embeddings.word_embeddings.weight" in file.graphs.text.weights
    for side in ("image", "text"):
        assert len(file.read_graph(side)) < 60_000  # type: ignore[arg-type]  # the two there are
    torch.load(whole, weights_only=True)  # and torch reads it as safely


def test_a_file_is_checked_once_and_again_when_it_has_changed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    shutil.copy(whole, path)
    ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "check", no_check)
        ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache")
    content = bytearray(path.read_bytes())
    file = CheckpointFile(path)
    largest = max(file.weights.values(), key=lambda tensor: tensor.nbytes)
    at = bytes(content).index(file.read_weight(next(n for n, t in file.weights.items() if t == largest)).tobytes()[:64])
    content[at + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged"):
        ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache")
    without_torch(monkeypatch)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged"):
        ClipEmbedder.load(path, cache_dir=tmp_path / "cache")


def damage_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_a_graph(path: Path) -> None:
    graph = CheckpointFile(path).read_graph("text")
    content = bytearray(path.read_bytes())
    content[bytes(content).index(graph) + len(graph) // 2] ^= 1
    path.write_bytes(content)


def claim_another_fingerprint(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "fingerprint": "0" * 64}, path)


def cut_texts_elsewhere(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["tokenization"]["max_length"] = 3
    torch.save(content, path)


def drop_graphs(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "graphs": None}, path)


def age_graphs(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["graphs"]["format"] = 0
    torch.save(content, path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_file,
        flip_a_bit_of_a_graph,
        claim_another_fingerprint,
        cut_texts_elsewhere,
        drop_graphs,
        age_graphs,
        Path.unlink,
    ],
)
def test_a_broken_or_stale_export_is_made_anew(
    cache: Path, plain: Path, rows: np.ndarray, exports: list[Path], damage: Callable[[Path], None]
) -> None:
    (export,) = (cache / "exports").glob("*.pt")
    damage(export)
    embedder = ClipEmbedder.load(plain, runtime="onnx", cache_dir=cache)
    assert np.allclose(embedder.embed_texts(TEXTS), rows, atol=1e-4)
    assert len(exports) == 1
    assert [path.name for path in (cache / "exports").iterdir()] == [export.name]
    ClipEmbedder.load(plain, runtime="onnx", cache_dir=cache).embed_texts(TEXTS)
    assert len(exports) == 1


def test_an_export_is_found_by_the_bytes_of_its_source_wherever_they_lie(
    cache: Path, plain: Path, exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointFile, "check", no_check)
    shutil.copy(plain, tmp_path / "copy.pt")
    for _ in range(2):
        ClipEmbedder.load(tmp_path / "copy.pt", runtime="onnx", cache_dir=cache)
    assert not exports


def test_files_of_one_model_share_an_export_and_keep_their_own_prompts(
    plain: Path, exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointFile, "check", no_check)
    prompts = [Prompts(templates=("a photo of a {}",)), Prompts(templates=("a drawing of a {}",)), None]
    paths = [tmp_path / f"{number}.pt" for number in range(3)]
    for path, each in zip(paths, prompts, strict=True):
        save_checkpoint(replace(load_checkpoint(plain), prompts=each), path)
    for _ in range(2):
        loaded = [ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache") for path in paths]
        assert [each.prompts for each in loaded] == prompts
    assert len(list((tmp_path / "cache" / "exports").glob("*.pt"))) == 1


def test_a_present_export_opens_without_torch_and_a_missing_one_says_what_to_install(
    cache: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_torch(monkeypatch)
    assert ClipEmbedder.load(plain, cache_dir=cache).runtime == "onnx"
    for source in (plain, "hf:openai/clip-vit-base-patch32"):
        with pytest.raises(MissingExtra, match=r"pip install 'clip-qdrant\[torch\]'"):
            ClipEmbedder.load(source, cache_dir=tmp_path / "empty")
    for options in ({"runtime": "torch"}, {"device": "cuda"}):
        with pytest.raises(MissingExtra, match=r"clip-qdrant\[torch\]"):
            ClipEmbedder.load(plain, cache_dir=cache, **options)  # type: ignore[arg-type]  # one value each
    with pytest.raises(MissingExtra, match="saving a model"):
        ClipEmbedder.load(plain, cache_dir=cache).save(tmp_path / "copy.pt")


def test_another_model_at_the_same_path_is_not_mistaken_for_the_old_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    shutil.copy(whole, path)
    first = ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache")
    expected = first.embed_texts(TEXTS)
    graphs = torch.load(whole, weights_only=True)["graphs"]  # of the same network: they hold no weights
    other = exported_checkpoint(seed=5)
    save_checkpoint(other, path, graphs=lambda _checkpoint: dict(graphs))
    second = ClipEmbedder.load(path, runtime="onnx", cache_dir=tmp_path / "cache")
    assert second.fingerprint == other.fingerprint() != first.fingerprint
    assert not np.allclose(second.embed_texts(TEXTS), expected, atol=1e-2)
    assert np.array_equal(first.embed_images(pictures(1)), first.embed_images(pictures(1)))  # opened from the old file
    with pytest.raises(CheckpointError, match=f"{first.fingerprint[:12]}.*load it again"):
        first.save(tmp_path / "copy.pt")
    assert not (tmp_path / "copy.pt").exists()


def test_threads_that_find_no_export_make_one_between_them(
    plain: Path, rows: np.ndarray, tmp_path: Path, exports: list[Path]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(ClipEmbedder.load, plain, runtime="onnx", cache_dir=tmp_path / "cold") for _ in range(4)]
        embedders = [load.result() for load in loads]
    assert len(exports) == 1
    for embedder in embedders:
        assert np.allclose(embedder.embed_texts(TEXTS), rows, atol=1e-4)


def test_a_graph_that_onnx_runtime_cannot_open_is_replaced_by_an_export(
    whole: Path, rows: np.ndarray, tmp_path: Path, exports: list[Path]
) -> None:
    content = torch.load(whole, weights_only=True)
    graph = torch.frombuffer(bytearray(b"a graph of the future"), dtype=torch.uint8)
    import hashlib

    digest = hashlib.sha256(graph.numpy().tobytes()).hexdigest()
    content["graphs"]["text"] = {**content["graphs"]["text"], "graph": graph, "sha256": digest}
    torch.save(content, tmp_path / "model.pt")
    clip = ClipEmbedder.load(tmp_path / "model.pt", runtime="onnx", cache_dir=tmp_path / "cache")
    assert np.allclose(clip.embed_texts(TEXTS), rows, atol=1e-4)
    assert len(exports) == 1


def test_leftovers_of_exports_that_were_killed_go_with_the_next_one(
    plain: Path, tmp_path: Path, exports: list[Path]
) -> None:
    folder = tmp_path / "cache" / "exports"
    folder.mkdir(parents=True)
    (folder / ".new.pt.abcdefgh").write_bytes(bytes(100))
    (folder / ".new-abcdefgh" / "export").mkdir(parents=True)  # whatever it is
    ClipEmbedder.load(plain, runtime="onnx", cache_dir=tmp_path / "cache")
    assert [path.suffix for path in folder.iterdir()] == [".pt"]
    assert len(exports) == 1


def test_a_cache_that_cannot_be_written_is_named(plain: Path, tmp_path: Path, exports: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write the ONNX export"):
        ClipEmbedder.load(plain, runtime="onnx", cache_dir=tmp_path / "file")


def test_a_note_that_was_changed_is_not_believed(
    cache: Path, plain: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for note in (cache / "notes").iterdir():
        values = json.loads(note.read_text())
        note.write_text(json.dumps({**values, "fingerprint": "0" * 64}))
    (export,) = (cache / "exports").glob("*.pt")
    assert ClipEmbedder.load(plain, runtime="onnx", cache_dir=cache).fingerprint == export.stem


def fill_disk(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def fill_disk_under_a_library(*_arguments: object, **_options: object) -> None:
    try:
        fill_disk()
    except OSError as error:
        raise RuntimeError("cannot save") from error


def test_a_full_disk_is_told_as_such(
    plain: Path, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export.torch.onnx, "export", fill_disk_under_a_library)
    with pytest.raises(DiskFull, match=r"the disk is full: .* MB are free") as caught:
        ClipEmbedder.load(plain, runtime="onnx", cache_dir=tmp_path)
    assert exit_code(caught.value) == FAILURE
    monkeypatch.setattr(torch, "save", fill_disk_under_a_library)
    with pytest.raises(DiskFull):
        save_checkpoint(tiny, tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_a_network_that_cannot_be_exported_is_saved_without_graphs_and_says_so(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ValueError("an operator that ONNX has not")

    monkeypatch.setattr(onnx_export.torch.onnx, "export", fail)
    assert save_checkpoint(tiny, tmp_path / "model.pt", graphs=onnx_export.make_graphs) == tiny.fingerprint()
    assert "model.pt is saved without graphs" in caplog.text
    assert "an operator that ONNX has not" in caplog.text
    with pytest.raises(ExportError, match="an operator that ONNX has not"):
        ClipEmbedder.load(tmp_path / "model.pt", runtime="onnx", cache_dir=tmp_path / "cache")


# The export takes a while, and is a copy of what it would be.
LOAD = """
import shutil, sys, time
from clip_qdrant import ClipEmbedder
from clip_qdrant.model import saving

model, whole, fingerprint, cache = sys.argv[1:]

def export(_checkpoint, target, _graphs):
    time.sleep(0.3)
    shutil.copy(whole, target)
    print("exported")
    return fingerprint

saving.export_checkpoint = export
clip = ClipEmbedder.load(model, runtime="onnx", device="cpu", cache_dir=cache)
print(clip.embed_texts(["a dog"])[0, 0])
"""


def test_of_processes_that_find_no_export_one_makes_it_for_all(plain: Path, whole: Path, tmp_path: Path) -> None:
    running = [start_fork(LOAD, plain, whole, whole.stem, tmp_path / "cache") for _ in range(3)]
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    told = [out.split() for out, _ in outputs]
    assert sorted(map(len, told)) == [1, 1, 2]  # one says that it exported
    expected = ClipEmbedder.load(whole, runtime="onnx", cache_dir=tmp_path).embed_texts(["a dog"])[0, 0]
    assert [float(words[-1]) for words in told] == pytest.approx([expected] * 3, abs=1e-5)
    assert [path.name for path in (tmp_path / "cache" / "exports").iterdir()] == [whole.name]


@pytest.mark.parametrize("side", ["image", "text"])
def test_graphs_that_do_not_give_the_rows_of_torch_are_refused(
    side: str, tiny: Checkpoint, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = CheckpointFile(whole)
    monkeypatch.setattr(
        onnx_export, "_export", lambda owner, side, *_: (file.read_graph(side), list(file.list_weights(side)))
    )
    assert onnx_export.make_graphs(tiny)["dim"] == 32
    encode = getattr(tiny.model, f"encode_{side}")
    monkeypatch.setattr(tiny.model, f"encode_{side}", lambda *inputs: encode(*inputs) * 1.01)
    with pytest.raises(ExportError, match=f"the {side} encoder differs by .* from torch: set runtime to torch"):
        onnx_export.make_graphs(tiny)
