"""The token ids of a published model are those of its own tokenizer, and folders that do not hold one are refused."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer
from varied import VARIED_TEXTS
from vocabularies import write_bert_tokenizer, write_clip_tokenizer, write_gemma_tokenizer, write_json

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.texts import read_texts
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization


def describe(model_type: str, *, vocabulary: int, positions: int, pad: int | None = 1) -> Any:
    text = SimpleNamespace(vocab_size=vocabulary, max_position_embeddings=positions, pad_token_id=pad)
    return SimpleNamespace(model_type=model_type, text_config=text)


def tokenize(folder: Path, config: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return TextTokenizer(*read_texts(folder, config, "hf:someone/model"))(texts)


def ask(folder: Path, model_type: str, **options: Any) -> dict[str, np.ndarray]:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return dict(AutoTokenizer.from_pretrained(folder)(VARIED_TEXTS, truncation=True, return_tensors="np", **options))


@pytest.mark.parametrize(
    ("family", "write", "length"),
    [
        ("clip", write_clip_tokenizer, 77),
        ("chinese_clip", write_bert_tokenizer, 52),
    ],
)
def test_forty_texts_have_the_ids_of_the_models_own_tokenizer(
    family: str, write: Callable[[Path], int], length: int, tmp_path: Path
) -> None:
    write(tmp_path)
    theirs = ask(tmp_path, family, padding=True)
    ids, mask = tokenize(tmp_path, describe(family, vocabulary=49408, positions=length), VARIED_TEXTS)
    assert ids.shape[1] == length  # some are cut
    assert np.array_equal(ids, theirs["input_ids"])
    assert np.array_equal(mask, theirs["attention_mask"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_siglip_2_has_lower_case_its_own_pad_token_and_side_whatever_the_configuration_says(
    tmp_path: Path, side: str
) -> None:
    write_gemma_tokenizer(tmp_path, padding_side=side)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    reference = AutoTokenizer.from_pretrained(tmp_path)
    texts = [text.lower() for text in VARIED_TEXTS]
    theirs = reference(texts, truncation=True, padding="max_length", max_length=64, return_tensors="np")["input_ids"]
    # <eos>, as it stands in the configurations of published models: the default of transformers.
    ids, _ = tokenize(tmp_path, describe("siglip", vocabulary=256, positions=64, pad=1), VARIED_TEXTS)
    assert np.array_equal(ids, theirs)
    assert (ids[3] == 0).sum() == 62  # "a": one token, <eos>, and padding


def test_a_text_that_is_cut_keeps_its_end_token_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_gemma_tokenizer(tmp_path)
    text, tokenization = read_texts(tmp_path, describe("siglip", vocabulary=256, positions=64), "hf:a/b")
    tokenizer = TextTokenizer(text, tokenization, warns=True)
    with caplog.at_level(logging.WARNING):
        assert tokenizer(["short"])[0].shape == (1, 64)
        assert not caplog.records
        for _ in range(3):
            ids, _ = tokenizer(["long " * 100, "longer " * 100])
    assert (ids[:, -1] == 1).all()
    assert [record.getMessage() for record in caplog.records] == [
        "a text has more than the 64 tokens that the model takes: what is beyond is left out"
    ]


def test_the_limit_of_the_tokenizer_counts_where_it_is_below_that_of_the_positions(tmp_path: Path) -> None:
    write_bert_tokenizer(tmp_path)
    _, tokenization = read_texts(tmp_path, describe("chinese_clip", vocabulary=500, positions=512), "hf:a/b")
    assert tokenization.max_length == 52


def test_folders_without_a_whole_tokenizer_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    config = describe("clip", vocabulary=49408, positions=77)
    with pytest.raises(CheckpointError, match=r"hf:a/b has no tokenizer: one of tokenizer\.json, vocab\.json, "):
        read_texts(tmp_path, config, "hf:a/b")
    write_clip_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"merges\.txt, which belongs to vocab\.json, is missing"):
        read_texts(tmp_path, config, "hf:a/b")


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "tokenizer.model"])
def test_a_tokenizer_of_sentencepiece_alone_names_the_library_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    config = describe("altclip", vocabulary=250002, positions=514)
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"no tokenizer.json, and its {file} takes .* pip install sentencepiece"):
        read_texts(tmp_path, config, "hf:a/b")


def test_a_tokenizer_larger_than_the_embedding_table_is_refused_with_both_numbers(tmp_path: Path) -> None:
    write_gemma_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="a tokenizer of 100 tokens, and its text encoder knows only 80"):
        read_texts(tmp_path, describe("siglip", vocabulary=80, positions=64), "hf:a/b")


def test_a_tokenizer_that_cuts_on_the_left_is_refused(tmp_path: Path) -> None:
    write_gemma_tokenizer(tmp_path, truncation_side="left")
    with pytest.raises(CheckpointError, match="cuts texts on their left"):
        read_texts(tmp_path, describe("siglip", vocabulary=256, positions=64), "hf:a/b")


def train_siglip(folder: Path) -> None:
    """A spiece.model as that of SigLIP: unigrams, </s> and <unk> first."""
    pieces = pytest.importorskip("sentencepiece")
    lines = [" ".join(text.lower().split())[:300] for text in VARIED_TEXTS if text.strip()] * 3
    (folder / "lines.txt").write_text("\n".join(lines))
    pieces.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=220,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64})


def test_siglip_with_nothing_but_spiece_model_has_the_ids_of_its_own_tokenizer(tmp_path: Path) -> None:
    train_siglip(tmp_path)
    theirs = ask(tmp_path, "siglip", padding="max_length", max_length=64)["input_ids"]
    ids, _ = tokenize(tmp_path, describe("siglip", vocabulary=500, positions=64), VARIED_TEXTS)
    assert np.array_equal(ids, theirs)


def test_new_fields_of_tokenization_stand_in_its_dict_only_where_they_are_on() -> None:
    plain = Tokenization(max_length=8)
    assert not {"lower_case", "pad_left"} & set(plain.to_dict())
    assert Tokenization(**Tokenization(max_length=8, pad_left=True).to_dict()).pad_left
