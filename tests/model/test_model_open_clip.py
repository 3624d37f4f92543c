"""Models of open_clip give the rows that open_clip itself gives, for tiny ones of each kind saved to disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertTokenizer, XLMRobertaConfig, XLMRobertaTokenizer
from varied import VARIED_TEXTS, read_upright

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.loading import load_checkpoint, read_checkpoint
from clip_qdrant.model.published.open_clip.library import import_open_clip
from clip_qdrant.model.published.open_clip.source import find_named
from clip_qdrant.model_inputs.text_cleaning import CLEANINGS, clean_text
from clip_qdrant.model_names import suggest_name

Values = Mapping[str, Any]
VIT: Values = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 96}
TEXT: Values = {"width": 64, "heads": 2, "layers": 1}
SIGLIP_TEXT: Values = {
    **TEXT,
    "context_length": 16,
    "vocab_size": 300,
    "hf_tokenizer_name": "there/is-none",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
HALVES: Values = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@dataclass(frozen=True)
class Kind:
    """A model_cfg and preprocess_cfg, and how many of the varied images it is tried with: large ones take long."""

    vision: Values = field(default_factory=lambda: VIT)
    text: Values = field(default_factory=lambda: TEXT)
    own: Values = field(default_factory=dict)
    preprocess: Values = field(default_factory=dict)
    tokenizer: str = ""
    images: int = 27
    gain: float = 1.0  # of a layer: the more, the more a pixel that is read otherwise tells


KINDS = {
    "ViT": Kind(own={"quick_gelu": True}),
    "RN50": Kind(vision={"layers": [1, 1, 1, 1], "width": 16, "image_size": 64}),
    "MobileCLIP": Kind(
        vision={"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": None, "image_size": 128},
        text={**TEXT, "no_causal_mask": True},
        own={"custom_text": True},
        preprocess={"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"},
        images=8,
        gain=0.7,
    ),
    "SigLIP": Kind(
        vision={"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none", "image_size": 160},
        text=SIGLIP_TEXT,
        own={"custom_text": True, "init_logit_bias": -10, "embed_dim": 96},
        preprocess={**HALVES, "resize_mode": "squash"},
        tokenizer="roberta",
        images=8,
    ),
    "EVA": Kind(
        vision={"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None},
        own={"custom_text": True},
        preprocess={"resize_mode": "longest", "fill_color": 90},
        images=3,
    ),
    "PE-Core": Kind(
        vision={"timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map", "timm_proj": None}
        | {"image_size": 384},
        text={**TEXT, "context_length": 32},
        own={"custom_text": True},
        preprocess={**HALVES, "resize_mode": "squash", "interpolation": "bilinear"},
        images=2,
    ),
    "CoCa": Kind(
        vision={**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        text={**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        own={"custom_text": True, "multimodal_cfg": {**TEXT, "context_length": 76, "attn_pooler_heads": 2}},
        images=3,
        gain=0.7,
    ),
    "CLIPS": Kind(
        text={**TEXT, "vocab_size": 300, "no_causal_mask": True, "pool_type": "last", "context_length": 24}
        | {"hf_tokenizer_name": "there/is-none", "tokenizer_kwargs": {"strip_sep_token": True}},
        own={"custom_text": True},
        tokenizer="bert",
        images=1,
    ),
    "XLM-R": Kind(
        text={"hf_model_name": "", "hf_tokenizer_name": "there/is-none", "hf_proj_type": "mlp", "context_length": 24}
        | {"hf_pooler_type": "mean_pooler"},
        tokenizer="roberta",
        images=1,
    ),
}


def spread(model: nn.Module, gain: float) -> None:
    """A fresh network gives nearly the same row to everything."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name and parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5)
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)


def save_tokenizer(kind: str, folder: Path) -> None:
    words = dict.fromkeys(word for text in VARIED_TEXTS for word in text.lower().split())
    if kind == "bert":
        letters = dict.fromkeys(letter for word in words for letter in (word[0], "##" + word[0]))
        tokens = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters]))[:300]
        BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    else:
        pieces = list(dict.fromkeys([*"\u2581abcdefghijklmnopqrstuvwxyz", *("\u2581" + word for word in words)]))[:280]
        vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
        vocab += [(piece, -float(index)) for index, piece in enumerate(pieces)] + [("<mask>", 0.0)]
        XLMRobertaTokenizer(vocab=vocab).save_pretrained(folder)


def save_model(name: str, folder: Path) -> Path:
    """A folder as open_clip pushes it to the hub."""
    kind = KINDS[name]
    folder.mkdir()
    text = dict(kind.text)
    if "hf_model_name" in text:
        XLMRobertaConfig(
            vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        ).save_pretrained(folder / "text")
        text["hf_model_name"] = str(folder / "text")
    if kind.tokenizer:
        save_tokenizer(kind.tokenizer, folder)
    model = {"embed_dim": 48, "vision_cfg": dict(kind.vision), "text_cfg": text, **kind.own}
    config = {"model_cfg": model, "preprocess_cfg": kind.preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    spread(network, kind.gain)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made when they are asked for."""
    home = tmp_path_factory.mktemp("open_clip")

    class Folders(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = save_model(name, home / name)
            return self[name]

    return Folders()


def by_open_clip(folder: Path, images: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        pixels = torch.stack([prepare(read_upright(path)) for path in images])
        return (
            nn.functional.normalize(model.encode_image(pixels), dim=-1).numpy(),
            nn.functional.normalize(model.encode_text(tokenize(VARIED_TEXTS)), dim=-1).numpy(),
        )


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours * theirs).sum(axis=1).min())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", KINDS)
def test_vectors_are_those_of_open_clip(name: str, folders: dict[str, Path], varied_files: list[Path]) -> None:
    some = varied_files[:: max(1, len(varied_files) // KINDS[name].images)][: KINDS[name].images]
    rows, texts = by_open_clip(folders[name], some)

    embedder = ClipEmbedder.load(f"hf:{folders[name]}", runtime="torch")

    assert (texts @ texts.T).min() < 0.9, "the model tells no texts apart"
    assert worst(embedder.embed_images(some), rows) >= 0.9995
    assert worst(embedder.embed_texts(VARIED_TEXTS), texts) >= 0.99999


def test_onnx_runtime_gives_the_same_vectors(
    folders: dict[str, Path], varied_files: list[Path], tmp_path: Path
) -> None:
    onnx = ClipEmbedder.load(f"hf:{folders['ViT']}", runtime="onnx", cache_dir=tmp_path)
    torch_ = ClipEmbedder.load(f"hf:{folders['ViT']}", runtime="torch")

    assert onnx.fingerprint == torch_.fingerprint
    assert worst(onnx.embed_images(varied_files[:2]), torch_.embed_images(varied_files[:2])) >= 0.9999
    texts = ["a dog", "", *VARIED_TEXTS[-3:]]
    assert worst(onnx.embed_texts(texts), torch_.embed_texts(texts)) >= 0.99999


@pytest.mark.parametrize("name", ["ViT", "XLM-R"])
def test_a_saved_file_is_the_same_model_without_its_folder(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    embedder = ClipEmbedder.load(f"hf:{folders[name]}", runtime="torch")

    assert embedder.save(tmp_path / "saved.pt", graphs=False) == embedder.fingerprint
    assert load_checkpoint(tmp_path / "saved.pt").fingerprint() == embedder.fingerprint


def test_an_architecture_and_a_file_name_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"embed_dim": 48, "vision_cfg": VIT, "text_cfg": TEXT}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny", config)
    model = open_clip.create_model("ViT-tiny")
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, tmp_path / "w.pt"
    )

    checkpoint = read_checkpoint(f"open_clip:ViT-tiny/{tmp_path / 'w.pt'}")

    assert checkpoint.trained_on == ("open_clip:ViT-tiny/w.pt",)
    weights = checkpoint.model.state_dict()
    assert all(weights[f"model.{name}"].equal(value) for name, value in model.state_dict().items() if "visual" in name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("open_clip:ViT-B-23/openai", "no architecture 'ViT-B-23'; similar: ViT-B-32"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79", "similar: laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "there are open_clip:ViT-B-32/openai"),
        ("open_clip:hf-hub:timm/ViT-B-16-SigLIP", "hf:timm/ViT-B-16-SigLIP"),
        ("ViT-B-32/laion2b_s34b_b79k", "named open_clip:ViT-B-32/laion2b_s34b_b79k"),
    ],
)
def test_a_name_that_is_not_one_is_answered_with_those_that_are(name: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        read_checkpoint(name)


def test_a_tag_names_a_file_of_the_hub_and_the_activation_that_its_weights_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append(f"{repository}/{file}")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)

    source = find_named("ViT-B-32/openai", "open_clip:ViT-B-32/openai")

    assert asked == ["timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"]
    assert source.weights == tmp_path / "open_clip_model.safetensors"
    assert source.model["quick_gelu"] is True


def test_a_folder_of_open_clip_with_code_for_transformers_is_taken_as_one_of_open_clip(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / file).symlink_to(folders["ViT"] / file)
    own = {"model_type": "siglip", "auto_map": {"AutoModel": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(own))

    assert read_checkpoint(f"hf:{tmp_path}").config["family"] == "open_clip"


def test_names_of_architectures_are_told_from_names_of_repositories() -> None:
    for architecture in open_clip.list_models():
        assert "open_clip:" in suggest_name(f"{architecture}/some_tag"), architecture
    assert "hf:openai/clip-vit-base-patch32" in suggest_name("openai/clip-vit-base-patch32")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text_cfg": {**TEXT, "tokenizer_kwargs": {"reduction_mask": "random"}}}, "reduction_mask"),
        ({"text_cfg": {**TEXT, "tokenizer_kwargs": {"trust_remote_code": True}}}, "trust_remote_code"),
        ({"text_cfg": {**TEXT, "tokenizer_mode": "clips"}}, "mode 'clips'"),
        ({"vision_cfg": {**VIT, "timm_model_name": "hf-hub:someone/something"}}, "timm does not know"),
        ({"vision_cfg": {**VIT, "image_size": [96, 64]}}, "squares"),
        ({"vision_cfg": {**VIT, "layers": 2}}, "missing"),
        ({"audio_cfg": {}}, "audio_cfg"),
    ],
)
def test_what_a_configuration_asks_for_is_done_or_refused_by_name(
    change: Values, told: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["ViT"]
    values = json.loads((folder / "open_clip_config.json").read_text())
    values["model_cfg"] |= change
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")

    with pytest.raises(CheckpointError, match=told) as caught:
        read_checkpoint(f"hf:{tmp_path}")

    assert tmp_path.name in str(caught.value)


def test_what_is_said_of_training_or_by_default_is_no_part_of_the_fingerprint(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["ViT"]
    values = json.loads((folder / "open_clip_config.json").read_text())
    values["model_cfg"]["vision_cfg"] |= {"patch_dropout": 0.5, "timm_drop": 0.0, "no_ln_pre": False}
    values["model_cfg"]["text_cfg"] |= {"context_length": 77, "pool_type": "argmax", "embed_cls": False}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")

    assert read_checkpoint(f"hf:{tmp_path}").fingerprint() == read_checkpoint(f"hf:{folder}").fingerprint()
    values["model_cfg"]["quick_gelu"] = False
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    assert read_checkpoint(f"hf:{tmp_path}").fingerprint() != read_checkpoint(f"hf:{folder}").fingerprint()


def test_weights_that_are_a_pickle_are_refused_unread(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((folders["ViT"] / "open_clip_config.json").read_bytes())
    torch.save({"state_dict": nn.Linear(2, 2)}, tmp_path / "open_clip_pytorch_model.bin")

    with pytest.raises(CheckpointError, match="pickle"):
        read_checkpoint(f"hf:{tmp_path}")


@pytest.mark.parametrize("cleaning", CLEANINGS[1:])
def test_texts_are_cleaned_as_open_clip_does(cleaning: Any) -> None:
    theirs = open_clip.tokenizer.get_clean_fn(cleaning)
    more = [
        "\u201cdon\u2019t\u201d \u2014 it\u2019s",
        "\uff2c\uff2f\uff35\uff24\u3000\uff71",
        "Tom &amp; Jerry",
        "\ufb01ne",
    ]
    more += [
        "\x1b[31mred\x1b[0m",
        "a\x92s",
        "5\u00b0C \u00bd \u2026 \u20ac",
        "\u03a3\u0391\u03a3",
        "a_b",
        "Gr\u00f6\u00dfe",
    ]

    assert {text: clean_text(text, cleaning) for text in more + VARIED_TEXTS} == {
        text: theirs(text) for text in more + VARIED_TEXTS
    }


def test_importing_open_clip_leaves_the_threads_of_tokenizers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "import os; os.environ['TOKENIZERS_PARALLELISM'] = 'false'"  # as open_clip.tokenizer does
    assert line.partition("; ")[2].replace("'", '"') in Path(str(open_clip.tokenizer.__file__)).read_text()
    (tmp_path / "open_clip.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)

    import_open_clip()

    assert "TOKENIZERS_PARALLELISM" not in os.environ
