"""What goes wrong with the hub is told in words that say what to do, and never with a token."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub, refusal, use_hub
from huggingface_hub import constants
from published import save_published
from web import Reply

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError, DiskFull
from clip_qdrant.hub.snapshots import fetch_descriptions, fetch_weights
from clip_qdrant.model.published.hub import load_hub_config, load_hub_tokenizer

TOKEN = "hf_" + "secret" * 6
CONFIG = json.dumps({"model_type": "clip"}).encode()
WHOLE = {"config.json": CONFIG, "preprocessor_config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"w"}

# The files of what is no model of images and texts, and what is told of it.
OTHER_KINDS = [
    ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, "an adapter .LoRA. for another model"),
    ({"model_index.json": b"{}", "unet/config.json": b"{}"}, "a pipeline of diffusers"),
    ({"model-Q4.gguf": b""}, "GGUF"),
    ({"onnx/model.onnx": b"", "tokenizer.json": b"{}"}, "ONNX files alone"),
    ({"clip.mlpackage/Manifest.json": b"{}"}, "Core ML"),
    ({"pytorch_model.bin": b""}, "weights without the configuration"),
    ({"ViT-B-32.pt": b""}, "named by its path"),
    ({".gitattributes": b"", "README.md": b""}, "it is empty"),
    ({"data.parquet": b""}, "neither of config.json, open_clip_config.json, modules.json"),
    ({"config.json": b'{"architecture": "resnet50"}', "model.safetensors": b""}, "image model of timm .resnet50."),
]
# The files of a model whose weights are not read here, and what is told of them.
OTHER_WEIGHTS = [
    ({"tf_model.h5": b"", "flax_model.msgpack": b""}, "only some for TensorFlow and Flax: take a model that has them"),
    ({"onnx/model.onnx": b""}, "only some for ONNX Runtime"),
    ({"model.fp16.safetensors": b""}, r"; model\.fp16\.safetensors is not one: .* name that hf:FOLDER$"),
    ({"weights/model.safetensors": b"", "tf_model.h5": b""}, r"; weights/model\.safetensors is not one"),
    ({"training_args.bin": b"", "optimizer.pt": b""}, r"\(model\.safetensors, .*\), nor any others$"),
]


def refused(name: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch_weights(fetch_descriptions(name))
    assert TOKEN not in str(caught.value)
    assert "Client Error" not in str(caught.value)
    return str(caught.value)


def test_a_gated_model_names_its_licence_and_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("meta/gated", WHOLE)
    hub.refuse_files("meta/gated", refusal(401, "GatedRepo"))
    told = refused("meta/gated")
    assert f"accept its licence at {hub.site.url}/meta/gated" in told
    assert "HF_TOKEN" in told
    assert "hf auth login" in told
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.refuse_files("meta/gated", refusal(403, "GatedRepo"))
    assert "the account of the token in use has not been let in" in refused("meta/gated")


def test_a_model_that_is_not_there_or_private_is_one_error_with_both_ways_out(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refuse("no/model", refusal(401, "RepoNotFound"))
    told = refused("no/model")
    assert "there is no model hf:no/model at" in told
    assert "is private (HF_TOKEN" in told
    assert "check OWNER/NAME" in told
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.refuse("no/model", refusal(404, "RepoNotFound"))
    assert "private to others than the owner of the token" in refused("no/model")


def test_both_runtimes_tell_it(hub: FakeHub, tmp_path: Path) -> None:
    hub.refuse("no/model", refusal(404, "RepoNotFound"))
    for runtime in ("onnx", "torch"):
        with pytest.raises(CheckpointError, match="there is no model hf:no/model"):
            ClipEmbedder.load("hf:no/model", runtime=runtime, device="cpu", cache_dir=tmp_path)


def test_a_token_that_is_refused_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.refuse("some/model", refusal(401, "", "Invalid credentials in Authorization header"))
    assert "the hub refuses the token in use" in refused("some/model")


def test_a_revision_that_is_not_there_lists_those_that_are(hub: FakeHub) -> None:
    hub.add("some/model", WHOLE)
    hub.add("some/model", WHOLE, branch="v1")
    assert refused("some/model@nowhere") == (
        "there is no hf:some/model@nowhere: its revisions are main, v1, and the hash of any commit, in full"
    )


@pytest.mark.parametrize(("files", "told"), OTHER_KINDS)
def test_a_repository_of_another_kind_is_told_what_it_is(hub: FakeHub, files: dict[str, bytes], told: str) -> None:
    hub.add("some/thing", files)
    with pytest.raises(CheckpointError, match=told):
        fetch_descriptions("some/thing")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        *OTHER_KINDS,
        ({"config.json": b"{}"}, "a config.json without model_type"),
        ({"config.json": b"[]"}, "a config.json that holds a list, not a dict"),
    ],
)
def test_a_folder_of_another_kind_is_told_the_same(tmp_path: Path, files: dict[str, bytes], told: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        ClipEmbedder.load(f"hf:{tmp_path}", runtime="torch", device="cpu")
    assert f"hf:{tmp_path} " in str(caught.value)


@pytest.mark.parametrize(("weights", "told"), OTHER_WEIGHTS)
def test_a_model_without_weights_for_torch_is_told_what_it_has_instead(
    hub: FakeHub, tmp_path: Path, weights: dict[str, bytes], told: str
) -> None:
    folder = save_published("clip", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    hub.add("some/model", {**{file.name: file.read_bytes() for file in folder.iterdir()}, **weights})
    for name, content in weights.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name in ("some/model", str(folder)):
        with pytest.raises(CheckpointError, match=f"^hf:{name} has no weights for torch by a name .*{told}"):
            ClipEmbedder.load(f"hf:{name}", runtime="torch", device="cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.json", "config.json"])
def test_a_clone_without_its_large_files_is_told_how_to_bring_them(tmp_path: Path, file: str) -> None:
    folder = save_published("clip", tmp_path / "model")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 605157884\n"
    (folder / "pytorch_model.bin").write_text(pointer)  # which is not read
    ClipEmbedder.load(f"hf:{folder}", runtime="torch", device="cpu")
    (folder / file).write_text(pointer)
    with pytest.raises(CheckpointError, match=f"^hf:{folder} has a {file} that is a pointer of Git LFS .*git lfs pull"):
        ClipEmbedder.load(f"hf:{folder}", runtime="torch", device="cpu")


def test_a_name_of_nothing_is_not_the_folder_one_is_in(tmp_path: Path) -> None:
    for runtime in ("onnx", "torch"):
        for name in ("hf:", "hf: "):
            with pytest.raises(CheckpointError, match="hf: names no model: write hf:OWNER/NAME"):
                ClipEmbedder.load(name, runtime=runtime, device="cpu", cache_dir=tmp_path)


def test_a_model_of_another_family_costs_no_download_of_its_weights(hub: FakeHub) -> None:
    hub.add("some/text-model", {**WHOLE, "config.json": b'{"model_type": "bert"}'})
    with pytest.raises(CheckpointError, match="hf:some/text-model is a bert model"):
        ClipEmbedder.load("hf:some/text-model", runtime="torch", device="cpu")
    assert "model.safetensors" not in hub.downloads


@pytest.mark.parametrize("load", [load_hub_config, load_hub_tokenizer])
def test_what_another_repository_lacks_for_a_model_is_told_of_that_one(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, load: Callable[[str, str], object]
) -> None:
    def told() -> str:
        with pytest.raises(CheckpointError) as caught:
            load("meta/gated", "open_clip:xlm-roberta-base-ViT-B-32/some_tag")
        return str(caught.value)

    hub.add("meta/gated", {"config.json": CONFIG, "tokenizer_config.json": b"{}", "tokenizer.json": b"{}"})
    hub.refuse_files("meta/gated", refusal(401, "GatedRepo"))
    begin = "cannot load open_clip:xlm-roberta-base-ViT-B-32/some_tag: its text model is of another repository: "
    assert told().startswith(f"{begin}hf:meta/gated is gated: accept its licence at {hub.site.url}/meta/gated")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert told().startswith(f"{begin}hf:meta/gated has not been downloaded whole, and HF_HUB_OFFLINE keeps it")


def test_no_network_names_the_network(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://someone:password@127.0.0.1:9", tmp_path / "hub")
    told = refused("some/model")
    assert "cannot reach the hub at http://" in told
    assert "password" not in told
    assert "HTTPS_PROXY" in told
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE keeps it from being" in refused("some/model")


@pytest.mark.parametrize(
    ("status", "told"),
    [(429, "too many requests"), (503, "cannot reach the hub"), (403, "may not read it")],
)
def test_an_answer_of_a_hub_that_is_busy_or_says_no_is_told(hub: FakeHub, status: int, told: str) -> None:
    hub.refuse("some/model", Reply(b"", status))
    assert told in refused("some/model")


def test_a_full_disk_and_a_cache_that_cannot_be_written_are_told(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("some/model", WHOLE)

    def fail(code: int) -> None:
        def download(*_: object, **__: object) -> str:
            raise OSError(code, "told by the system")

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    fail(errno.ENOSPC)
    with pytest.raises(DiskFull, match="make room"):
        fetch_descriptions("some/model")
    fail(errno.EACCES)
    assert "HF_HOME names another folder" in refused("some/model")
