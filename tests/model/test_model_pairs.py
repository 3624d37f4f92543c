"""Models of sentence-transformers give the rows that it gives: a CLIP model inside one, and pairs of two models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import word_tokenizer
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
)
from varied import VARIED_TEXTS, read_upright

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.loading import load_checkpoint, read_checkpoint
from clip_qdrant.model_names import split_pair

Values = dict[str, Any]
WORDS = list(dict.fromkeys(word for text in VARIED_TEXTS for word in text.lower().split()))
DIM = 24


def spread(model: nn.Module) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)


def save_tokenizer(folder: Path, length: int) -> int:
    tokenizer = Tokenizer.from_str(word_tokenizer(WORDS))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, model_max_length=length, **special).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def save_clip(folder: Path) -> Path:
    folder.mkdir(parents=True)
    size = save_tokenizer(folder, 16)
    blocks = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**blocks, "vocab_size": size, "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**blocks, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config={**text, "pad_token_id": 0}, vision_config=vision, projection_dim=DIM))
    spread(model)
    model.save_pretrained(folder)
    square = {"height": 32, "width": 32}
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": square}
    processor |= {"do_center_crop": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_text_model(
    folder: Path, *, kind: str = "distilbert", pools: Values | None = None, dense: Values | None = None
) -> Path:
    """As sentence-transformers lays out its models: modules.json and a folder for each of them."""
    folder.mkdir()
    size = save_tokenizer(folder, 512)
    if kind == "distilbert":
        model: nn.Module = DistilBertModel(
            DistilBertConfig(vocab_size=size, dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=40)
        )
    else:
        blocks = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = BertModel(BertConfig(vocab_size=size, max_position_embeddings=40, **blocks), add_pooling_layer=False)
    spread(model)
    model.save_pretrained(folder)  # type: ignore[operator]
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": False}))
    modules = ["Transformer", "Pooling", "Dense"]
    said: dict[str, Values] = {
        "Pooling": pools or {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "Dense": {
            "in_features": 32,
            "out_features": DIM,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        | (dense or {}),
    }
    for number, name in enumerate(modules[1:], 1):
        part = folder / f"{number}_{name}"
        part.mkdir()
        (part / "config.json").write_text(json.dumps(said[name]))
    values = said["Dense"]
    layer = nn.Linear(values["in_features"], values["out_features"], bias=values["bias"])
    spread(layer)
    torch.save({f"linear.{name}": value for name, value in layer.state_dict().items()}, part / "pytorch_model.bin")
    write_modules(folder, [(name, "" if number == 0 else f"{number}_{name}") for number, name in enumerate(modules)])
    return folder


def write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    rows = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip, the same as sentence-transformers had it, and a text model of the same space."""
    home = tmp_path_factory.mktemp("models")
    save_clip(home / "clip")
    shutil.copytree(home / "clip", home / "old" / "0_CLIPModel")
    write_modules(home / "old", [("CLIPModel", "0_CLIPModel")])
    save_text_model(home / "texts")
    return home


@pytest.fixture(scope="module")
def by_sentence_transformers() -> Callable[[Path, list[Any]], np.ndarray]:
    sentence_transformers = pytest.importorskip("sentence_transformers")

    def encode(folder: Path, inputs: list[Any]) -> np.ndarray:
        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.encode(inputs, normalize_embeddings=True))

    return encode


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours * theirs).sum(axis=1).min())


@pytest.mark.parametrize("name", ["clip", "old"])
def test_a_clip_model_inside_one_of_sentence_transformers_gives_its_vectors(
    name: str, home: Path, varied_files: list[Path], by_sentence_transformers: Callable[[Path, list[Any]], np.ndarray]
) -> None:
    embedder = ClipEmbedder.load(f"hf:{home / name}", runtime="torch")

    # Squares: what is cut off of others is a matter of the families, not of where a model lies.
    pictures = [read_upright(path).resize((96, 96)) for path in varied_files[:6]]
    assert worst(embedder.embed_images(pictures), by_sentence_transformers(home / name, pictures)) >= 0.9995
    assert worst(embedder.embed_texts(VARIED_TEXTS), by_sentence_transformers(home / name, VARIED_TEXTS)) >= 0.99999


@pytest.mark.parametrize(
    ("kind", "pools", "dense"),
    [
        ("distilbert", None, None),
        ("bert", {"pooling_mode": ["cls", "max"]}, {"in_features": 64, "bias": True, "activation_function": None}),
        ("bert", {"pooling_mode_mean_sqrt_len_tokens": True}, {"use_residual": False}),
    ],
)
def test_texts_of_a_pair_are_those_of_the_text_model_and_images_those_of_the_image_model(
    kind: str,
    pools: Values | None,
    dense: Values | None,
    home: Path,
    varied_files: list[Path],
    tmp_path: Path,
    by_sentence_transformers: Callable[[Path, list[Any]], np.ndarray],
) -> None:
    if dense and "activation_function" in dense:
        dense = {**dense, "activation_function": "torch.nn.modules.activation.Tanh"}
    if pools:
        pools = {**pools, "word_embedding_dimension": 32}
    texts = save_text_model(tmp_path / "texts", kind=kind, pools=pools, dense=dense)

    pair = ClipEmbedder.load(f"hf:{home / 'old'}+hf:{texts}", runtime="torch")

    theirs = by_sentence_transformers(texts, VARIED_TEXTS)
    assert (theirs @ theirs.T).min() < 0.9
    assert worst(pair.embed_texts(VARIED_TEXTS), theirs) >= 0.99999
    alone = ClipEmbedder.load(f"hf:{home / 'clip'}", runtime="torch")
    assert worst(pair.embed_images(varied_files[:4]), alone.embed_images(varied_files[:4])) >= 0.999999


def test_a_pair_is_one_file_and_runs_on_both_runtimes(home: Path, varied_files: list[Path], tmp_path: Path) -> None:
    name = f"hf:{home / 'clip'}+hf:{home / 'texts'}"
    pair = ClipEmbedder.load(name, runtime="torch")

    assert pair.save(tmp_path / "pair.pt", graphs=False) == pair.fingerprint
    assert load_checkpoint(tmp_path / "pair.pt").fingerprint() == pair.fingerprint
    onnx = ClipEmbedder.load(name, runtime="onnx", cache_dir=tmp_path / "cache")
    assert onnx.fingerprint == pair.fingerprint
    assert worst(onnx.embed_images(varied_files[:2]), pair.embed_images(varied_files[:2])) >= 0.9999
    assert worst(onnx.embed_texts(VARIED_TEXTS[:5]), pair.embed_texts(VARIED_TEXTS[:5])) >= 0.99999
    assert pair.trained_on == ("hf:clip", "hf:texts")


def test_a_pair_holds_no_weights_that_its_vectors_do_not_depend_on(home: Path) -> None:
    names = set(read_checkpoint(f"hf:{home / 'clip'}+hf:{home / 'texts'}").model.state_dict())

    assert not [name for name in names if "image.model.text" in name or "logit_scale" in name]
    assert [name for name in names if "vision_model" in name]


def test_the_fingerprint_of_a_pair_covers_both_models(home: Path, tmp_path: Path) -> None:
    other = save_text_model(tmp_path / "texts", dense={"activation_function": "torch.nn.modules.activation.Tanh"})
    names = ("clip+hf:{texts}", "clip+hf:{other}", "clip")
    prints = {
        read_checkpoint(f"hf:{home}/" + name.format(texts=home / "texts", other=other)).fingerprint() for name in names
    }

    assert len(prints) == 3


def test_vectors_of_two_lengths_are_no_pair(home: Path, tmp_path: Path) -> None:
    texts = save_text_model(tmp_path / "texts", dense={"out_features": 16})

    with pytest.raises(CheckpointError, match=r"vectors of 16 numbers.*vectors of 24"):
        read_checkpoint(f"hf:{home / 'clip'}+hf:{texts}")


def test_a_text_model_alone_is_refused_with_how_to_pair_it(home: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"texts alone.*\+hf:{home / 'texts'}"):
        read_checkpoint(f"hf:{home / 'texts'}")


def test_an_image_model_is_no_text_model(home: Path) -> None:
    with pytest.raises(CheckpointError, match="no text model"):
        read_checkpoint(f"hf:{home / 'clip'}+hf:{home / 'clip'}")


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ([("WordEmbeddings", ""), ("Pooling", "1_Pooling")], "WordEmbeddings"),
        ([("Transformer", ""), ("LSTM", "1_LSTM")], "LSTM"),
        ([("Router", "")], "Router"),
        ([("Transformer", "../texts")], "outside"),
    ],
)
def test_modules_that_are_not_supported_are_refused_by_name(
    modules: list[tuple[str, str]], told: str, home: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    shutil.copytree(home / "texts", texts)
    write_modules(texts, modules)

    with pytest.raises(CheckpointError, match=told):
        read_checkpoint(f"hf:{home / 'clip'}+hf:{texts}")


def test_a_module_with_code_of_its_own_is_refused(home: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    shutil.copytree(home / "texts", texts)
    (texts / "modules.json").write_text(json.dumps([{"path": "", "type": "custom_code.Encoder"}]))

    with pytest.raises(CheckpointError, match="code of its own"):
        read_checkpoint(f"hf:{home / 'clip'}+hf:{texts}")


def test_a_clip_model_with_more_behind_it_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "old", tmp_path / "more")
    write_modules(tmp_path / "more", [("CLIPModel", "0_CLIPModel"), ("Dense", "1_Dense")])

    with pytest.raises(CheckpointError, match="Dense after its clip"):
        read_checkpoint(f"hf:{tmp_path / 'more'}")


def test_a_name_of_a_pair_is_told_from_others() -> None:
    assert split_pair("hf:a/b+hf:c/d@main") == ("hf:a/b", "c/d@main")
    assert split_pair("/data/c++/model.pt") is None
    assert split_pair("hf:a/b") is None
