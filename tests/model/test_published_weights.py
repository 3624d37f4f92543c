"""A folder whose weights are not all there, or are another model's, is refused by name, whatever holds them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from published import save_published
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.load import load_published

LACKING = "vision_model.head.mlp.fc1.weight"
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published("siglip", tmp_path_factory.mktemp("siglip"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy without its weights."""
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    return tmp_path / "model"


def write_safetensors(folder: Path, weights: Weights) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_shards(folder: Path, weights: Weights) -> None:
    names, places = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_pickle(folder: Path, weights: Weights) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize("write", [write_safetensors, write_shards, write_pickle])
def test_weights_that_lack_are_named(write: Callable[[Path, Weights], None], whole: Path, folder: Path) -> None:
    weights = load_file(whole / "model.safetensors")
    write(folder, weights)
    assert load_published(str(folder)).fingerprint() == load_published(str(whole)).fingerprint()
    for file in folder.glob("*model*"):
        file.unlink()
    write(folder, {name: tensor for name, tensor in weights.items() if name != LACKING})
    with pytest.raises(CheckpointError, match=f"not whole: {LACKING} missing$"):
        load_published(str(folder))


def test_a_part_that_lacks_is_named(whole: Path, folder: Path) -> None:
    write_shards(folder, load_file(whole / "model.safetensors"))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        load_published(str(folder))


def test_a_folder_without_weights_is_told_of_with_the_names_looked_for(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model has no weights .*\(model\.safetensors, .*, nor any others$"):
        load_published(str(folder))


def test_weights_of_another_model_are_told(whole: Path, folder: Path) -> None:
    bert = BertModel(BertConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, vocab_size=9000))
    write_safetensors(folder, dict(bert.state_dict()))
    with pytest.raises(CheckpointError, match=r"not whole: .* and \d+ more missing; it has others \(.*another model"):
        load_published(str(folder))


def test_half_of_the_weights_of_another_size_are_told(whole: Path, folder: Path) -> None:
    weights = load_file(whole / "model.safetensors")
    weights["text_model.embeddings.token_embedding.weight"] = torch.zeros(9000, 32)
    write_safetensors(folder, weights)
    with pytest.raises(
        CheckpointError, match=r"do not fit its configuration: .*token_embedding.weight is 9000 x 32, not"
    ):
        load_published(str(folder))


def test_tensors_that_older_files_have_beside_the_weights_are_passed_over(whole: Path, folder: Path) -> None:
    weights = load_file(whole / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(64)[None]
    write_safetensors(folder, weights)
    assert load_published(str(folder)).fingerprint() == load_published(str(whole)).fingerprint()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told(whole: Path, folder: Path, value: float) -> None:
    weights = load_file(whole / "model.safetensors")
    weights[LACKING].view(-1)[0] = value
    write_safetensors(folder, weights)
    with pytest.raises(CheckpointError, match=f"model has weights that are no numbers .*, 1 of them, model.{LACKING}"):
        load_published(str(folder))


def test_quantized_weights_are_refused_in_words(whole: Path, folder: Path) -> None:
    write_safetensors(folder, load_file(whole / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="has quantized weights"):
        load_published(str(folder))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("distilbert", "a text model: it can be the text encoder of a new model"),
        ("dinov2", "an image model without texts"),
        ("siglip_vision_model", "one half of an image-text model"),
        ("clap", "for sounds"),
        ("colpali", "many vectors an image"),
        ("jina_clip", "code of its own, which is not run here"),
        ("unheard_of", "is a unheard_of model; models of the families clip, "),
    ],
)
def test_a_model_of_another_kind_is_told_what_it_is(folder: Path, kind: str, told: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    with pytest.raises(CheckpointError, match=told):
        load_published(str(folder))
