"""A bare state dict of the tutorial lineage loads: dims from the shapes, wrappers and prefixes off, errors by name.

And a checkpoint of such a network is written as one.
"""

from __future__ import annotations

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
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model.tutorial import from_state_dict, save_state_dict, to_state_dict
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
    def __init__(self, image: str = "resnet50", dim: int = 256) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = nn.Module(), nn.Module()
        self.image_encoder.model = timm.create_model(image, num_classes=0, global_pool="avg")
        config = DistilBertConfig(vocab_size=VOCABULARY, dim=64, n_heads=1, hidden_dim=128)
        self.text_encoder.model = DistilBertModel(config)
        self.image_projection = Head(self.image_encoder.model.num_features, dim)
        self.text_projection = Head(64, dim)


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    torch.manual_seed(0)
    return Lineage().eval()


def test_a_bare_state_dict_of_430_keys_gives_the_vectors_of_the_network_it_came_from(
    tmp_path: Path, lineage: Lineage
) -> None:
    weights = lineage.state_dict()
    assert len(weights) == 430
    torch.save(weights, tmp_path / "best.pt")
    clip = ClipEmbedder.load(tmp_path / "best.pt", runtime="torch", device="cpu")
    assert (clip.dim, clip.image_size, clip.preprocessing.resize) == (256, 224, "squash")
    [image] = pictures(1, size=(300, 200))
    pixels = np.asarray(image.resize((224, 224), 2)) / 255.0
    normed = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
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
def test_onnx_runtime_gives_the_same_vectors(tmp_path: Path, lineage: Lineage) -> None:
    torch.save(lineage.state_dict(), tmp_path / "best.pt")
    onnx = ClipEmbedder.load(tmp_path / "best.pt", runtime="onnx", cache_dir=tmp_path / "cache")
    other = ClipEmbedder.load(tmp_path / "best.pt", runtime="torch", device="cpu")
    images, texts = pictures(5, size=(300, 200)), ["a dog", "a brown dog running along the beach in summer"]
    assert np.allclose(onnx.embed_images(images), other.embed_images(images), atol=1e-4)
    assert np.allclose(onnx.embed_texts(texts), other.embed_texts(texts), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "module.", "position_ids", "half"])
def test_what_other_savers_put_around_it_comes_off(tmp_path: Path, lineage: Lineage, wrapper: str) -> None:
    weights: dict[str, object] = dict(lineage.state_dict())
    if wrapper == "module.":
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    elif wrapper == "position_ids":
        weights["text_encoder.model.embeddings.position_ids"] = torch.arange(512)[None]
    elif wrapper == "half":
        weights = {n: t.half() if t.is_floating_point() else t for n, t in lineage.state_dict().items()}
    else:
        weights = {wrapper: weights, "epoch": 3}
    torch.save(weights, tmp_path / "best.pt")
    read = load_checkpoint(tmp_path / "best.pt")
    assert read.model.dim == 256
    expected = lineage.state_dict()["image_projection.fc.weight"]
    assert torch.allclose(read.model.image_projection.fc.weight, expected, atol=1e-3)


def test_another_resnet_and_another_width_follow_from_the_shapes(tmp_path: Path) -> None:
    torch.save(Lineage("resnet18", dim=128).state_dict(), tmp_path / "small.pt")
    read = load_checkpoint(tmp_path / "small.pt")
    assert (read.model.config.image, read.model.dim) == ("resnet18", 128)
    assert read.model.config.text["n_layers"] == 6


@pytest.mark.slow
def test_missing_wrong_and_foreign_keys_are_named(tmp_path: Path, lineage: Lineage) -> None:
    path = tmp_path / "best.pt"

    def refused(weights: dict[str, object]) -> str:
        torch.save(weights, path)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        return str(caught.value)

    good = dict(lineage.state_dict())
    without = {name: tensor for name, tensor in good.items() if name != "text_projection.layer_norm.bias"}
    assert "missing: text_projection.layer_norm.bias" in refused(without)
    assert "unknown: extra.weight" in refused({**good, "extra.weight": torch.zeros(2)})
    assert "image_encoder.model.conv1.weight" in refused({**good, "image_encoder.model.conv1.weight": torch.zeros(1)})
    assert "image_projection.projection.weight" in refused({"fc.weight": torch.zeros(2, 2)})
    assert "not plain tensors: text_projection.fc.bias" in refused({**good, "text_projection.fc.bias": "text"})
    assert "image_encoder.model.conv1.weight" in refused({**good, "image_encoder.model.conv1.weight": "text"})
    words = "text_encoder.model.embeddings.word_embeddings.weight"
    assert "knows 10 tokens" in refused({**good, words: torch.zeros(10, 64)})
    assert "nothing" in refused({})


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    """As read from a state dict of a small ResNet and a DistilBERT of one head."""
    torch.manual_seed(1)
    return from_state_dict(Lineage("resnet10t", dim=32).state_dict(), "a test")


def changed(checkpoint: Checkpoint, **fields: Any) -> Checkpoint:
    """With another network of the same shapes, whose config says something else."""
    config = replace(checkpoint.model.config, **fields)
    return replace(checkpoint, model=DualEncoder(config, checkpoint.preprocessing).eval())


@pytest.mark.slow
def test_a_checkpoint_is_written_as_the_430_keys_that_the_lineage_loads(tmp_path: Path, lineage: Lineage) -> None:
    ours = from_state_dict(lineage.state_dict(), "a test")
    save_checkpoint(ours, tmp_path / "ours.pt")
    save_state_dict(load_checkpoint(tmp_path / "ours.pt"), tmp_path / "new folder" / "best.pt")
    weights = torch.load(tmp_path / "new folder" / "best.pt", weights_only=True)
    assert len(weights) == 430
    other = Lineage()
    other.load_state_dict(weights)  # strict: no key is missing and none is foreign
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in lineage.state_dict().items())
    assert load_checkpoint(tmp_path / "new folder" / "best.pt").fingerprint() == ours.fingerprint()


def test_a_checkpoint_written_and_read_back_gives_the_same_vectors(tmp_path: Path, small: Checkpoint) -> None:
    trained = replace(small, trained_on=("dogs",), metrics={"recall": 1.0})
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


@pytest.mark.slow
def test_what_a_reader_could_not_know_is_refused(small: Checkpoint) -> None:
    def refused(checkpoint: Checkpoint) -> str:
        with pytest.raises(CheckpointError) as caught:
            to_state_dict(checkpoint)
        return str(caught.value)

    assert "image_size 176, not 224" in refused(replace(small, preprocessing=Preprocessing(176)))
    assert "interpolation 'bicubic', not 'bilinear'" in refused(replace(small, preprocessing=Preprocessing()))
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
