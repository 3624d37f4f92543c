"""hf: models give the rows that transformers itself gives, for tiny CLIP and SigLIP models saved to disk."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import pictures
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model_inputs.tokenization import Tokenization

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SENTENCES = ["a photo of a dog on the grass", "two cats, one red square!", "the blue circle runs"] * 5


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    )
    text = {**SMALL, "vocab_size": tokenizer.get_vocab_size(), "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 32},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    text = {**SMALL, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 64, "pad_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def unit(rows: torch.Tensor) -> np.ndarray:
    return np.asarray(torch.nn.functional.normalize(rows, dim=-1))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_rows_are_those_of_transformers_in_both_runtimes(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"{family}_folder")
    model = (CLIPModel if family == "clip" else SiglipModel).from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = ["two cats one red square", "a dog"]
    images = pictures(3, size=(32, 32))
    scale = {"clip": ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]), "siglip": ([0.5] * 3, [0.5] * 3)}[family]
    pixels = (np.stack([np.asarray(image) for image in images]) / 255.0 - scale[0]) / scale[1]
    expected_texts = []
    with torch.inference_mode():
        tensor = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
        expected_images = unit(model.get_image_features(pixel_values=tensor).pooler_output)
        for text in texts:
            ids = tokenizer.encode(text).ids
            if family == "siglip":
                ids = ids + [1] * (64 - len(ids))
            expected_texts.append(unit(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output)[0])
    for runtime in ("torch", "onnx"):
        clip = ClipEmbedder.load(f"hf:{folder}", runtime=runtime, device="cpu", cache_dir=tmp_path)
        assert clip.runtime == runtime
        assert np.allclose(clip.embed_images(images), expected_images, atol=1e-4)
        assert np.allclose(clip.embed_texts(texts), expected_texts, atol=1e-4)


def test_loading_draws_nothing_on_stderr(clip_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ClipEmbedder.load(f"hf:{clip_folder}", runtime="torch", device="cpu")
    assert capfd.readouterr().err == ""


def test_clip_crops_siglip_squashes(clip_folder: Path, siglip_folder: Path) -> None:
    clip = ClipEmbedder.load(f"hf:{clip_folder}", runtime="torch", device="cpu")
    siglip = ClipEmbedder.load(f"hf:{siglip_folder}", runtime="torch", device="cpu")
    assert (clip.preprocessing.resize, siglip.preprocessing.resize) == ("crop", "squash")


def test_clip_text_beyond_77_tokens_is_truncated(clip_folder: Path) -> None:
    clip = ClipEmbedder.load(f"hf:{clip_folder}", runtime="torch", device="cpu")
    long, longer = clip.embed_texts(["dog " * 300, "dog " * 400])
    assert np.allclose(long, longer)
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)


def test_siglip_text_is_canonicalised(siglip_folder: Path) -> None:
    siglip = ClipEmbedder.load(f"hf:{siglip_folder}", runtime="torch", device="cpu")
    plain, loud = siglip.embed_texts(["two cats one red square", "Two cats, ONE red square!"])
    assert np.allclose(plain, loud)


@pytest.mark.parametrize("kind", ["GemmaTokenizer", "GemmaTokenizerFast"])
def test_siglip_2_text_is_lower_cased_as_the_model_was_trained(siglip_folder: Path, tmp_path: Path, kind: str) -> None:
    # As the hub has them: model_type siglip, and Gemma's tokenizer, whose file leaves capitals as they are.
    shutil.copytree(siglip_folder, tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    letters = sorted(set("two cats TWO CATS") - {" "})
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", "!", *letters]
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    siglip = ClipEmbedder.load(f"hf:{tmp_path / 'model'}", runtime="torch", device="cpu")
    low, loud, marked = siglip.embed_texts(["two cats", "TWO Cats", "two cats!"])
    assert np.allclose(low, loud)
    assert not np.allclose(low, marked)  # punctuation stays
    fingerprint = siglip.save(tmp_path / "saved.pt", graphs=False)
    saved = load_checkpoint(tmp_path / "saved.pt")
    assert saved.fingerprint() == fingerprint
    assert saved.tokenization.lower_case


def test_the_fingerprint_of_models_without_lower_casing_does_not_know_of_it() -> None:
    assert "lower_case" not in Tokenization(max_length=8).to_dict()
    assert Tokenization(**Tokenization(max_length=8, lower_case=True).to_dict()).lower_case


def test_a_siglip_model_with_another_tokenizer_is_not_canonicalised(siglip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(siglip_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    siglip = ClipEmbedder.load(f"hf:{tmp_path}", runtime="torch", device="cpu")
    plain, loud = siglip.embed_texts(["two cats one red square", "Two cats, ONE red square!"])
    assert not np.allclose(plain, loud)


def test_a_hub_model_saved_as_a_checkpoint_gives_the_same_rows_without_its_folder(
    clip_folder: Path, tmp_path: Path
) -> None:
    clip = ClipEmbedder.load(f"hf:{clip_folder}", runtime="torch", device="cpu")
    fingerprint = clip.save(tmp_path / "clip.pt", graphs=False)
    assert load_checkpoint(tmp_path / "clip.pt").fingerprint() == fingerprint == clip.fingerprint
    again = ClipEmbedder.load(tmp_path / "clip.pt", runtime="torch", device="cpu")
    assert np.allclose(again.embed_texts(["a dog"]), clip.embed_texts(["a dog"]), atol=1e-6)


def test_other_families_and_missing_folders_are_refused_by_name(clip_folder: Path, tmp_path: Path) -> None:
    BertModel(BertConfig(**SMALL, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a bert model, a text model: .*; models of the families clip, "):
        ClipEmbedder.load(f"hf:{tmp_path}", runtime="torch", device="cpu")
    (clip_folder_copy := tmp_path / "cut").mkdir()
    shutil.copytree(clip_folder, clip_folder_copy, dirs_exist_ok=True)
    weights = clip_folder_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot load"):
        ClipEmbedder.load(f"hf:{clip_folder_copy}", runtime="torch", device="cpu")
    with pytest.raises(CheckpointError, match="no-such-folder"):
        ClipEmbedder.load("hf:./no-such-folder", runtime="torch", device="cpu")


def changed(folder: Path, target: Path, **changes: object) -> str:
    """The name of a copy of a model whose configuration says something else."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    for name, value in changes.items():
        part, _, field = name.partition("__")
        config[part] = {**config[part], field: value} if field else value
    (target / "config.json").write_text(json.dumps(config))
    return f"hf:{target}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text_config__vocab_size": 10**12}, "describes a network of"),
        ({"text_config__max_position_embeddings": 10**12}, "max_length is"),
        ({"vision_config__num_hidden_layers": 10**7}, "more than the"),
        ({"vision_config__image_size": 10**6}, "its network takes 1000000 x 1000000"),
        ({"vision_config__num_attention_heads": 2.5}, "cannot load"),
        ({"text_config__hidden_size": 64}, "do not fit its configuration"),
        ({"text_config__num_hidden_layers": 2}, "not whole: .* missing"),
        ({"_attn_implementation": "someone/kernel"}, "eager and sdpa are possible"),
        ({"vision_config__attn_implementation": "flash_attention_2"}, "eager and sdpa are possible"),
    ],
)
def test_a_configuration_that_asks_for_more_than_the_files_hold_is_refused(
    clip_folder: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    name = changed(clip_folder, tmp_path / "model", **changes)
    with pytest.raises(CheckpointError, match=told):
        ClipEmbedder.load(name, runtime="torch", device="cpu")


def test_compressed_weights_of_a_folder_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    name = changed(clip_folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with zipfile.ZipFile(tmp_path / "model" / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"0" * 1_000_000)
    with pytest.raises(CheckpointError, match="compressed records"):
        ClipEmbedder.load(name, runtime="torch", device="cpu")
