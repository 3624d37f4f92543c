"""A bare state dict of the tutorial lineage loads: dims from the shapes, wrappers and prefixes off, errors by name.

And a checkpoint of such a network is written as one.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from tiny import pictures, tiny_checkpoint, word_tokenizer
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertModel

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.containers import unwrap_weights
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.tutorial import (
    find_image_architecture,
    from_state_dict,
    read_state_dict,
    save_state_dict,
    to_state_dict,
)
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

VOCABULARY = 30522  # bert-base-uncased


class Head(nn.Module):
    """The lineage's projection head, written out independently."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.projection, self.fc = nn.Linear(features, dim), nn.Linear(dim, dim)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        projected = self.projection(features)
        normed: Tensor = self.layer_norm(self.fc(nn.functional.gelu(projected)) + projected)
        return normed


class Lineage(nn.Module):
    def __init__(self, image: str = "resnet10t", dim: int = 32, layers: int = 1) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = nn.Module(), nn.Module()
        self.image_encoder.model = timm.create_model(image, num_classes=0, global_pool="avg")
        config = DistilBertConfig(vocab_size=VOCABULARY, dim=64, n_heads=1, hidden_dim=128, n_layers=layers)
        self.text_encoder.model = DistilBertModel(config)
        self.image_projection = Head(self.image_encoder.model.num_features, dim)
        self.text_projection = Head(64, dim)


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    torch.manual_seed(0)
    return Lineage().eval()


@pytest.fixture(scope="module")
def weights(lineage: Lineage) -> dict[str, Any]:
    return dict(lineage.state_dict())


@pytest.fixture(scope="module")
def file(weights: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lineage") / "best.pt"
    torch.save(weights, path)
    return path


def test_a_bare_state_dict_gives_the_vectors_of_the_network_it_came_from(file: Path, lineage: Lineage) -> None:
    clip = ClipEmbedder.load(file, runtime="torch", device="cpu")
    assert (clip.dim, clip.image_size, clip.preprocessing.resize) == (32, 224, "squash")
    [image] = pictures(1, size=(224, 224))  # as large as the network takes it: nothing is resized
    normed = (np.asarray(image) / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    ids = torch.tensor([[101, 1037, 3899, 102]])  # [CLS] a dog [SEP] in bert-base-uncased
    with torch.inference_mode():
        features = lineage.image_encoder.model(torch.tensor(normed.transpose(2, 0, 1)[None], dtype=torch.float32))
        expected_image = nn.functional.normalize(lineage.image_projection(features))
        hidden = lineage.text_encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        expected_text = nn.functional.normalize(lineage.text_projection(hidden[:, 0]))
    assert np.allclose(clip.embed_images([image]), expected_image, atol=1e-4)
    assert np.allclose(clip.embed_texts(["a dog"]), expected_text, atol=1e-5)
    assert np.allclose(clip.embed_texts(["A Dog"]), expected_text, atol=1e-5)  # uncased


@pytest.mark.slow
def test_onnx_runtime_gives_the_same_vectors(file: Path, tmp_path: Path) -> None:
    onnx = ClipEmbedder.load(file, runtime="onnx", cache_dir=tmp_path / "cache")
    other = ClipEmbedder.load(file, runtime="torch", device="cpu")
    images, texts = pictures(3, size=(300, 200)), ["a dog", "a brown dog running along the beach in summer"]
    assert np.allclose(onnx.embed_images(images), other.embed_images(images), atol=1e-4)
    assert np.allclose(onnx.embed_texts(texts), other.embed_texts(texts), atol=1e-4)


def test_resnet50_and_distilbert_have_the_430_names_of_the_tutorial() -> None:
    with torch.device("meta"):
        names = [*Lineage("resnet50", dim=256, layers=6).state_dict()]
        text = {"model_type": "distilbert", "vocab_size": VOCABULARY, "dim": 64, "n_heads": 1, "n_layers": 6}
        ours = DualEncoder(DualEncoderConfig(image="resnet50", text=text, pooling="cls", dim=256), Preprocessing())
    assert len(names) == 430
    assert {*names, "logit_scale"} == {*ours.state_dict()}


@pytest.mark.parametrize("name", ["resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_which_resnet_it_is_follows_from_the_shapes(name: str, weights: dict[str, Any]) -> None:
    with torch.device("meta"):
        image = timm.create_model(name, num_classes=0, global_pool="avg").state_dict()
    others = {key: tensor for key, tensor in weights.items() if not key.startswith("image_encoder")}
    assert find_image_architecture({f"image_encoder.model.{key}": t for key, t in image.items()} | others, "x") == name


def test_layers_and_widths_follow_from_the_shapes() -> None:
    read = from_state_dict(Lineage(dim=16, layers=2).state_dict(), "a test")
    assert (read.model.config.image, read.model.dim, read.model.config.text["n_layers"]) == ("resnet10t", 16, 2)


@pytest.mark.parametrize(
    ("put_on", "container"),
    [
        ("", "state_dict"),  # also Lightning's
        ("model.", "state_dict"),
        ("module.", "model_state_dict"),
        ("_orig_mod.", "model"),
        ("module._orig_mod.", "net"),
        ("_orig_mod.module.", "state"),
        ("model._orig_mod.module.", "weights"),
        ("clip.model.", "ema"),
        ("", "state/model"),
    ],
)
def test_what_other_savers_put_around_it_comes_off(weights: dict[str, Any], put_on: str, container: str) -> None:
    content: Any = {f"{put_on}{name}": tensor for name, tensor in weights.items()}
    for name in reversed(container.split("/")):
        content = {name: content, "epoch": 3, "optimizer_states": [{"state": {}}], "hyper_parameters": {"lr": 0.1}}
    unwrapped, left_out = unwrap_weights(content, "image_projection.projection.weight")
    assert (unwrapped, left_out) == (weights, [])


def test_a_container_with_a_prefix_loads_from_a_file(tmp_path: Path, weights: dict[str, Any]) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"weights": {f"model._orig_mod.{name}": tensor for name, tensor in weights.items()}}, path)
    assert load_checkpoint(path).fingerprint() == from_state_dict(weights, "a test").fingerprint()


def test_compiled_parts_a_buffer_of_old_and_half_precision_load(weights: dict[str, Any]) -> None:
    changed = {name.replace("encoder.model", "encoder._orig_mod.model"): tensor for name, tensor in weights.items()}
    changed = {name: t.half() if t.is_floating_point() else t for name, t in changed.items()}
    changed["text_encoder._orig_mod.model.embeddings.position_ids"] = torch.arange(512)[None]
    read = from_state_dict(changed, "a test")
    assert torch.allclose(read.model.image_projection.fc.weight, weights["image_projection.fc.weight"], atol=1e-3)


def test_what_embedding_has_no_use_for_is_left_out_with_a_word(
    weights: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    more = {
        "temperature": torch.tensor(0.07),
        "image_encoder.model.fc.weight": torch.zeros(1000, 512),
        "image_encoder.model.fc.bias": torch.zeros(1000),
    }
    around = {"criterion.logit_scale": torch.tensor([2.0]), "n_averaged": torch.tensor(3)}
    averages = {f"ema_model.{name}": tensor for name, tensor in weights.items()}
    content = {**{f"model.{name}": tensor for name, tensor in {**weights, **more}.items()}, **around, **averages}
    with caplog.at_level("INFO", logger="clip_qdrant"):
        read = from_state_dict({"state_dict": content}, "last.ckpt")
    assert read.fingerprint() == from_state_dict(weights, "a test").fingerprint()
    assert "last.ckpt: embedding has no use for" in caplog.text
    for name in ("temperature", "image_encoder.model.fc.weight", "criterion.logit_scale", "n_averaged"):
        assert name in caplog.text or " more" in caplog.text


def test_a_logit_scale_in_the_file_is_kept(weights: dict[str, Any]) -> None:
    read = from_state_dict({**weights, "logit_scale": torch.tensor([2.5])}, "a test")
    assert float(read.model.logit_scale.detach()) == 2.5


def test_loading_a_file_tells_the_log_what_is_assumed(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_checkpoint(file)
    load_checkpoint(file)
    told = [record.getMessage() for record in caplog.records if str(file) in record.getMessage()]
    assert len(told) <= 1  # once a process; another test may have been first
    caplog.clear()
    read_state_dict(torch.load(file, weights_only=True), "another name")
    for part in ("another name has weights and nothing else", "224 px", "bert-base-uncased", "200 tokens"):
        assert part in caplog.text


def test_missing_wrong_and_foreign_keys_are_named(weights: dict[str, Any]) -> None:
    def refused(changed: dict[str, object]) -> str:
        with pytest.raises(CheckpointError) as caught:
            from_state_dict(changed, "best.pt")
        return str(caught.value)

    without = {name: tensor for name, tensor in weights.items() if name != "text_projection.layer_norm.bias"}
    assert "missing: text_projection.layer_norm.bias" in refused(without)
    assert "unknown: extra.weight" in refused({**weights, "extra.weight": torch.zeros(2)})
    conv = "image_encoder.model.conv1.0.weight"
    assert f"like timm's resnet10t, but for {conv}" in refused({**weights, conv: torch.zeros(1)})
    assert "none of resnet50, resnet18" in refused({k: v for k, v in weights.items() if ".layer3." not in k})
    assert "image_projection.projection.weight" in refused({"fc.weight": torch.zeros(2, 2)})
    assert "not plain tensors: text_projection.fc.bias" in refused({**weights, "text_projection.fc.bias": "text"})
    assert conv in refused({**weights, conv: "text"})
    words = "text_encoder.model.embeddings.word_embeddings.weight"
    assert "knows 10 tokens" in refused({**weights, words: torch.zeros(10, 64)})
    assert "nothing" in refused({})


class Pickled(nn.Module):
    """A model of somebody's own code."""


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_model_is_refused_with_the_way_out(tmp_path: Path, legacy: bool) -> None:
    torch.save(Pickled(), tmp_path / "best.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"pickled \S*Pickled, not weights alone") as caught:
        load_checkpoint(tmp_path / "best.pt")
    assert "torch.save(model.state_dict(), PATH)" in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_is_told_for_what_it_is(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive.*hf:openai/clip-vit-base-patch32"):
        load_checkpoint(tmp_path / "ViT-B-32.pt")


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    """As read from a state dict of a small ResNet and a DistilBERT of one head."""
    torch.manual_seed(1)
    return from_state_dict(Lineage().state_dict(), "a test")


def changed(checkpoint: Checkpoint, **fields: Any) -> Checkpoint:
    """With another network of the same shapes, whose config says something else."""
    config = replace(checkpoint.model.config, **fields)
    return replace(checkpoint, model=DualEncoder(config, checkpoint.preprocessing).eval())


def test_a_checkpoint_is_written_as_the_keys_that_the_lineage_loads(
    tmp_path: Path, small: Checkpoint, lineage: Lineage
) -> None:
    save_state_dict(small, tmp_path / "new folder" / "best.pt")
    written = torch.load(tmp_path / "new folder" / "best.pt", weights_only=True)
    other = Lineage()
    other.load_state_dict(written)  # strict: no key is missing and none is foreign
    assert load_checkpoint(tmp_path / "new folder" / "best.pt").fingerprint() == small.fingerprint()


def test_a_checkpoint_written_and_read_back_gives_the_same_vectors(tmp_path: Path, small: Checkpoint) -> None:
    trained = replace(small, model=copy.deepcopy(small.model), trained_on=("dogs",), metrics={"recall": 1.0})
    with torch.no_grad():
        trained.model.logit_scale.fill_(1.0)  # the file has no place for it, and embedding no need of it
    save_state_dict(trained, tmp_path / "best.pt")
    read = load_checkpoint(tmp_path / "best.pt")
    one, other = (ClipEmbedder.from_checkpoint(each, device="cpu") for each in (trained, read))
    assert np.allclose(one.embed_images(pictures(2)), other.embed_images(pictures(2)), atol=1e-6)
    assert np.allclose(one.embed_texts(["a dog"]), other.embed_texts(["a dog"]), atol=1e-6)


def test_other_networks_have_no_state_dict_of_the_lineage(small: Checkpoint) -> None:
    with pytest.raises(CheckpointError) as caught:
        to_state_dict(tiny_checkpoint(image_head="concept", text_head="residual"))
    for part in ("'test_efficientnet'", "kind 'bert'", "pooling='mean'", "head 'concept'", "head 'residual'"):
        assert part in str(caught.value)
    with pytest.raises(CheckpointError, match="the network is a Linear"):
        to_state_dict(replace(small, model=nn.Linear(2, 2)))


def test_what_a_reader_could_not_know_is_refused(small: Checkpoint) -> None:
    def refused(checkpoint: Checkpoint) -> str:
        with pytest.raises(CheckpointError) as caught:
            to_state_dict(checkpoint)
        return str(caught.value)

    assert "image_size 176, not 224" in refused(replace(small, preprocessing=Preprocessing(176)))
    assert "interpolation 'bicubic', not 'opencv_bilinear'" in refused(replace(small, preprocessing=Preprocessing()))
    assert "max_length 77, not 200" in refused(replace(small, tokenization=Tokenization(77)))
    assert "n_heads 4, not 1" in refused(changed(small, text={**small.model.config.text, "n_heads": 4}))
    assert "activation 'relu'" in refused(changed(small, text={**small.model.config.text, "activation": "relu"}))
    assert "knows 100 tokens" in refused(changed(small, text={**small.model.config.text, "vocab_size": 100}))
    cased = small.tokenizer.replace('"lowercase":true', '"lowercase":false')
    assert cased != small.tokenizer
    assert "another tokenizer" in refused(replace(small, tokenizer=cased))
    assert "another tokenizer" in refused(replace(small, tokenizer=word_tokenizer()))


def test_a_state_dict_that_cannot_be_written_is_told(tmp_path: Path, small: Checkpoint) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the state dict"):
        save_state_dict(small, tmp_path / "file" / "best.pt")
