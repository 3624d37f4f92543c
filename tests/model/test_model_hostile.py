"""A checkpoint that means harm is refused in our words, before memory is taken for what it asks for."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_checkpoint

from clip_qdrant.cli import run
from clip_qdrant.errors import CheckpointError, ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.plan import build_plan
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization

WORDS = "text_encoder.model.embeddings.word_embeddings.weight"
HUGE = 10**12  # rows that no computer has room for: a refusal that tells shapes has not allocated them


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def content(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("good") / "good.pt"
    save_checkpoint(tiny, path)
    return dict(torch.load(path, weights_only=True))


def refuse(path: Path, content: Any) -> str:
    """What is said of a file with this content."""
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


def with_text(content: dict[str, Any], **changes: object) -> dict[str, Any]:
    config = content["config"]
    return {**content, "config": {**config, "text": {**config["text"], **changes}}}


def with_words(content: dict[str, Any], words: object) -> dict[str, Any]:
    return {**content, "weights": {**content["weights"], WORDS: words}}


def test_a_network_larger_than_its_weights_is_refused_by_its_shapes(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    assert f"expected ({HUGE}, 32)" in refuse(path, with_text(content, vocab_size=HUGE))
    wide = {**content, "config": {**content["config"], "dim": 10**7}}
    assert "expected (10000000, " in refuse(path, wide)
    assert "more than the" in refuse(path, with_text(content, num_hidden_layers=10**7))


def test_weights_that_are_not_really_there_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path, words = tmp_path / "model.pt", content["weights"][WORDS]
    repeated = with_words(with_text(content, vocab_size=HUGE), torch.zeros(1).expand(HUGE, 32))
    assert f"not plain tensors: {WORDS}" in refuse(path, repeated)
    for strange in (words.to_sparse(), words.to("meta"), words.to(torch.complex64), [1.0]):
        assert f"not plain tensors: {WORDS}" in refuse(path, with_words(content, strange))
    numbered = {**content, "weights": dict(enumerate(content["weights"].values()))}
    assert "unknown: 0, 1, 2" in refuse(path, numbered)
    assert "neither a clip_qdrant checkpoint nor a state dict" in refuse(path, {1: words})


def test_many_weights_on_the_same_few_bytes_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    layers, hidden = 40, 1024  # 330 MB of weights in a file of 17 MB
    shared = torch.zeros(4 * hidden * hidden)
    path, text = tmp_path / "model.pt", {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4096}
    wide = with_text({**content, "config": {**content["config"], "dim": hidden}}, **text)
    from clip_qdrant.model.loading import build_network

    plan = build_plan(lambda: build_network(dict(wide["config"]), Preprocessing(image_size=64)), 10_000)
    wide["weights"] = {
        name: shared[: tensor.numel()].view(tensor.shape) if tensor.is_floating_point() else torch.tensor(0)
        for name, tensor in plan.state_dict().items()
    }
    assert "describes a network of" in refuse(path, wide)
    assert path.stat().st_size < 20_000_000


def test_compressed_records_and_those_that_lie_about_their_size_are_refused(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    path, plain = tmp_path / "model.pt", io.BytesIO()
    torch.save(with_words(content, torch.zeros(5_000_000)), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for record in source.infolist():
            bomb.writestr(record.filename, source.read(record))
    with pytest.raises(CheckpointError, match="compressed records"):
        load_checkpoint(path)
    path.write_bytes(plain.getvalue())
    with zipfile.ZipFile(path, "a") as bomb:
        bomb.filelist += bomb.infolist() * 3  # a directory that names each record four times
        bomb.comment = b"changed"
    with pytest.raises(CheckpointError, match="has only"):
        load_checkpoint(path)


def test_a_description_of_other_than_plain_values_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    assert "holds a tensor" in refuse(path, {**content, "metrics": {"recall": torch.zeros(1)}})
    nested: list[Any] = ["x"] * 10
    for _ in range(12):
        nested = [nested] * 10  # 10**13 values in a file of a few bytes more
    assert "more than 1,000,000 values" in refuse(path, {**content, "trained_on": nested})
    assert "more than 1,000,000 values" in refuse(path, with_text(content, label2id=nested))
    for heads in (2.0, 2.5, "two", None):
        assert "cannot be built" in refuse(path, with_text(content, num_attention_heads=heads))
    assert "cannot be built" in refuse(path, {**content, "config": {1: 2}})
    assert "no text as tokenizer" in refuse(path, {**content, "tokenizer": 7})


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_is_not_torchs_own_is_refused(tmp_path: Path, content: dict[str, Any], name: str) -> None:
    path = tmp_path / "model.pt"
    for kernel in ("flash_attention_2", "someone/kernel", {"": "someone/kernel"}):
        assert "eager and sdpa are possible" in refuse(path, with_text(content, **{name: kernel}))


def change(tokenizer: str, **parts: object) -> str:
    return json.dumps({**json.loads(tokenizer), **parts})


def replaced(text: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"Regex": "."}, "content": text}


TOKENIZERS: dict[str, tuple[Callable[[str], str], str]] = {
    "a pattern that takes for ever": (
        lambda text: change(
            text,
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        ),
        "tokenizer of the model fails",
    ),
    "a normalizer that multiplies": (
        lambda text: change(text, normalizer={"type": "Sequence", "normalizers": [replaced("a" * 1000)] * 3}),
        "makes 1,000,000,000 characters of one",
    ),
    "a template that multiplies": (
        lambda text: change(
            text,
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 100
                + [{"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2] * 100, "tokens": ["[CLS]"] * 100}},
            },
        ),
        "adds 10,000 tokens",
    ),
    "ids beyond the text encoder": (lambda text: text.replace('"[SEP]":3', '"[SEP]":3000'), "with the token 3000"),
    "no tokenizer": (lambda text: "[1]", "tokenizer that cannot be"),
}


@pytest.mark.parametrize("how", TOKENIZERS)
def test_a_tokenizer_that_does_harm_is_refused(tmp_path: Path, tiny: Checkpoint, how: str) -> None:
    make, told = TOKENIZERS[how]
    save_checkpoint(replace(tiny, tokenizer=make(tiny.tokenizer)), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(tmp_path / "model.pt")


def test_a_padding_token_beyond_the_text_encoder_is_refused(tmp_path: Path, tiny: Checkpoint) -> None:
    save_checkpoint(replace(tiny, tokenization=replace(tiny.tokenization, pad_id=999)), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="with the token 999"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 100_000},
        {"image_size": 64.5},
        {"image_size": True},
        {"resize": "stretch"},
        {"interpolation": "sinc"},
        {"mean": (0.5,)},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (0.5, float("nan"), 0.5)},
    ],
)
def test_images_of_an_impossible_size_or_scale_are_refused(
    tmp_path: Path, content: dict[str, Any], changes: dict[str, Any]
) -> None:
    name = next(iter(changes))
    with pytest.raises(ConfigError, match=name):
        Preprocessing(**changes)
    assert name in refuse(tmp_path / "model.pt", {**content, "preprocessing": {**content["preprocessing"], **changes}})


@pytest.mark.parametrize(
    "changes", [{"max_length": 10**9}, {"max_length": -1}, {"max_length": 2.5}, {"padding": "much"}, {"pad_id": -5}]
)
def test_texts_of_an_impossible_length_are_refused(
    tmp_path: Path, content: dict[str, Any], changes: dict[str, Any]
) -> None:
    name = next(iter(changes))
    with pytest.raises(ConfigError, match=name):
        Tokenization(**{"max_length": 10, **changes})
    assert name in refuse(tmp_path / "model.pt", {**content, "tokenization": {**content["tokenization"], **changes}})


def test_a_pattern_that_only_some_texts_make_endless_is_an_error_of_ours(tiny: Checkpoint) -> None:
    endless = {"type": "Split", "pattern": {"Regex": "(q+)+$"}, "behavior": "Isolated", "invert": False}
    tokenize = TextTokenizer(change(tiny.tokenizer, pre_tokenizer=endless), tiny.tokenization)
    assert len(tokenize(["a dog"])[0]) == 1
    with pytest.raises(CheckpointError, match="tokenizer of the model fails"):
        tokenize(["q" * 60 + "!"])


def test_a_file_of_weights_alone_is_told_from_the_folder_of_a_model(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"hf:{tmp_path}"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_the_program_ends_with_the_exit_code_of_models(
    tmp_path: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(with_text(content, vocab_size=HUGE), tmp_path / "model.pt")
    assert run(["search", "a dog", "--model", str(tmp_path / "model.pt"), "--location", str(tmp_path / "store")]) == 4
    assert "do not fit their network" in capsys.readouterr().err
