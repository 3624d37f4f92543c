"""Models come from a hub into its cache: each file once, of one commit, and from the cache without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub import FakeHub, use_hub
from huggingface_hub import constants
from tiny import word_tokenizer
from transformers import CLIPConfig, CLIPModel

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.hub.snapshots import fetch_descriptions, fetch_weights, find_commit
from clip_qdrant.model.loading import load_checkpoint

CONFIG = json.dumps({"model_type": "clip"}).encode()
FILES = {
    "README.md": b"# a model",
    "config.json": CONFIG,
    "preprocessor_config.json": b"{}",
    "tokenizer.json": b"[]",
    "tokenizer_config.json": b"[1]",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same",
    "tf_model.h5": b"the same",
    "onnx/model.onnx": b"the same",
    "onnx/config.json": b"{}",
}


def fetch(name: str) -> Path:
    snapshot = fetch_descriptions(name)
    fetch_weights(snapshot)
    return snapshot.folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_downloaded_embeds_and_names_the_commit_that_it_was(hub: FakeHub, tmp_path: Path) -> None:
    made = tmp_path / "made"
    tokenizer = word_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 24, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16)
    ).save_pretrained(made)
    (made / "tokenizer.json").write_text(tokenizer)
    special = {"eos_token": "[SEP]", "bos_token": "[CLS]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (made / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 3,
    }
    (made / "preprocessor_config.json").write_text(json.dumps(processor))
    commit = hub.add("someone/tiny-clip", made)
    clip = ClipEmbedder.load("hf:someone/tiny-clip", runtime="torch", device="cpu")
    assert clip.trained_on == (f"hf:someone/tiny-clip@{commit}",)
    of_folder = ClipEmbedder.load(f"hf:{made}", runtime="torch", device="cpu")
    assert clip.fingerprint == of_folder.fingerprint  # of contents alone
    assert np.allclose(clip.embed_texts(["a dog"]), of_folder.embed_texts(["a dog"]), atol=1e-6)
    clip.save(tmp_path / "saved.pt", graphs=False)
    assert load_checkpoint(tmp_path / "saved.pt").trained_on == clip.trained_on


def test_what_is_needed_is_downloaded_and_nothing_twice(hub: FakeHub) -> None:
    hub.add("someone/clip", FILES)
    snapshot = fetch_descriptions("someone/clip")
    small = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names_in(snapshot.folder) == small  # so that a model that cannot be used costs no gigabytes
    fetch_weights(snapshot)
    assert names_in(snapshot.folder) == {*small, "model.safetensors"}
    assert sorted(hub.downloads) == sorted({*small, "model.safetensors"})
    asked = len(hub.site.requests)
    assert fetch("someone/clip") == snapshot.folder
    assert len(hub.site.requests) == asked  # the second time the network is not asked


def test_a_branch_and_a_commit_are_revisions(hub: FakeHub) -> None:
    old = hub.add("someone/clip", {**FILES, "model.safetensors": b"old"})
    new = hub.add("someone/clip", {**FILES, "model.safetensors": b"new"}, branch="v2")
    assert (fetch("someone/clip@v2") / "model.safetensors").read_bytes() == b"new"
    assert (fetch(f"someone/clip@{old}") / "model.safetensors").read_bytes() == b"old"
    assert fetch_descriptions("someone/clip@v2").label == f"hf:someone/clip@{new}"
    assert find_commit("someone/clip@v2") == new


def test_what_was_downloaded_stays_when_its_branch_moves_on(hub: FakeHub) -> None:
    old = hub.add("someone/clip", FILES)
    fetch("someone/clip")
    new = hub.add("someone/clip", {**FILES, "model.safetensors": b"new"})
    assert fetch("someone/clip").name == find_commit("someone/clip") == old
    assert fetch(f"someone/clip@{new}").name == new


def test_a_model_in_the_cache_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("someone/clip", FILES)
    folder = fetch("someone/clip")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("someone/clip") == folder


def test_a_model_that_another_program_fetched_parts_of_is_completed(hub: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    hub.add("someone/clip", FILES)
    for file in ("config.json", "model.safetensors"):
        hf_hub_download("someone/clip", file)
    assert "tokenizer.json" in names_in(fetch("someone/clip"))


def test_parts_of_a_model_are_taken_if_the_hub_is_away(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add("someone/clip", {name: content for name, content in FILES.items() if name != "preprocessor_config.json"})
    folder = fetch("someone/clip")
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    assert fetch("someone/clip") == folder


def test_weights_in_parts_come_whole(hub: FakeHub) -> None:
    index = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
    parts = {"model-1-of-2.safetensors": b"1", "model-2-of-2.safetensors": b"2"}
    rest = {name: content for name, content in FILES.items() if name != "model.safetensors"}
    hub.add("someone/large", {**rest, "model.safetensors.index.json": index, **parts})
    assert set(parts) <= names_in(fetch("someone/large"))
    hub.add("someone/cut", {**rest, "model.safetensors.index.json": index, "model-1-of-2.safetensors": b"1"})
    with pytest.raises(CheckpointError, match=r"names the file model-2-of-2\.safetensors, which is not there"):
        fetch("someone/cut")


def test_the_folders_of_a_model_of_sentence_transformers_come_with_it(hub: FakeHub) -> None:
    modules = [{"path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    inner = {f"0_CLIPModel/{name}": content for name, content in FILES.items()}
    hub.add("someone/st", {"modules.json": json.dumps(modules).encode(), **inner, "other/config.json": b"{}"})
    assert names_in(fetch("someone/st")) == {
        "modules.json",
        *(f"0_CLIPModel/{name}" for name in ("config.json", "preprocessor_config.json", "model.safetensors")),
        *(f"0_CLIPModel/{name}" for name in ("tokenizer.json", "tokenizer_config.json")),
    }


def test_a_model_of_open_clip_comes_with_the_weights_of_open_clip(hub: FakeHub) -> None:
    # As timm has them: model.safetensors is the image encoder alone, and config.json is timm's.
    both = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"both", "model.safetensors": b"one"}
    hub.add("timm/clip", {**both, "config.json": b'{"architecture": "vit"}', "tokenizer.json": b"{}"})
    assert "open_clip_model.safetensors" in names_in(fetch("timm/clip"))
    assert "model.safetensors" not in names_in(fetch("timm/clip"))
    hub.add("laion/clip", {**FILES, **both})  # with a configuration of transformers it is taken as one of these
    assert "model.safetensors" in names_in(fetch("laion/clip"))


def test_the_variables_of_the_hubs_library_count(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("someone/clip", FILES)
    code = "from clip_qdrant.hub.snapshots import *; print(fetch_descriptions('someone/clip').folder)"
    environment = {**os.environ, "HF_ENDPOINT": hub.site.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home" / "hub")
