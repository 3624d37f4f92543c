"""A new dual encoder takes the published weights of its text encoder, and what timm says of its images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import pictures, word_tokenizer
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5Model

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError, ConfigError
from clip_qdrant.model import new
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.new import new_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant_training import fit


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer.from_str(word_tokenizer())
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    small = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    BertModel(small).save_pretrained(folder)
    return str(folder)


def test_the_text_encoder_is_the_published_one(text_folder: str) -> None:
    made = new_checkpoint("test_resnet", text_folder, dim=16, pretrained=False)
    published = BertModel.from_pretrained(text_folder).eval()
    ids = torch.tensor([[2, 4, 5, 3]])
    with torch.inference_mode():
        hidden = published(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
        assert torch.allclose(made.model.text_encoder(ids, torch.ones_like(ids)), hidden, atol=1e-6)
    assert (made.model.dim, made.tokenization.max_length, made.preprocessing.image_size) == (16, 24, 160)


def test_it_saves_loads_and_embeds_like_any_other(text_folder: str, tmp_path: Path) -> None:
    made = new_checkpoint("resnet18", text_folder, pretrained=False)
    assert made.preprocessing.mean == (0.485, 0.456, 0.406)
    fingerprint = save_checkpoint(made, tmp_path / "new.pt")
    assert load_checkpoint(tmp_path / "new.pt").fingerprint() == fingerprint == made.fingerprint()
    rows = ClipEmbedder.from_checkpoint(made, device="cpu").embed_images(pictures(2))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_resnet50_and_distilbert_are_the_defaults(text_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []

    def remember(image: str, text: str, *, seed: int, **others: object) -> object:
        asked.append((image, text, seed))
        return new_checkpoint("test_resnet", text_folder, pretrained=False)

    # The package exports a function of the module's name, which a dotted path would find instead.
    monkeypatch.setattr(sys.modules["clip_qdrant_training.start"], "new_checkpoint", remember)
    pairs = [(picture, "a dog") for picture in pictures(4)]
    fit(pairs, text_encoder="some-bert", epochs=1, device="cpu", freeze_encoders=True)
    fit(pairs, image_encoder="vit_tiny", seed=7, epochs=1, device="cpu", freeze_encoders=True)
    assert asked == [("resnet50", "some-bert", 0), ("vit_tiny", "distilbert-base-uncased", 7)]
    with pytest.raises(ConfigError, match="not both"):
        fit(pairs, start="a.pt", image_encoder="vit_tiny")
    with pytest.raises(CheckpointError, match=r"there is no folder \./nowhere"):
        fit(pairs, start="hf:./nowhere")


def test_a_model_that_encodes_no_text_alone_is_refused(text_folder: str, tmp_path: Path) -> None:
    shutil.copytree(text_folder, tmp_path, dirs_exist_ok=True)
    T5Model(T5Config(d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=2, vocab_size=40)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="does not work as a text encoder here"):
        new_checkpoint("test_resnet", str(tmp_path), pretrained=False)


def test_what_cannot_be_had_is_named(text_folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load the text encoder"):
        new_checkpoint("test_resnet", str(tmp_path / "nothing"), pretrained=False)
    with pytest.raises(ConfigError, match="no image model 'resnet49'"):
        new_checkpoint("resnet49", text_folder, pretrained=False)

    def offline(*_: object, **__: object) -> None:
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr(new, "DualEncoder", offline)
    with pytest.raises(CheckpointError, match="timm's 'resnet50': the hub cannot be reached; set pretrained to false"):
        new_checkpoint("resnet50", text_folder)
