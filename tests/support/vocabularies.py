"""Tokenizers of published models in a folder, as their repositories have them; small but for CLIP's own.

Each gives the number of its tokens.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from varied import VARIED_TEXTS

__all__ = [
    "write_bert_tokenizer",
    "write_clip_tokenizer",
    "write_gemma_tokenizer",
    "write_json",
    "write_roberta_tokenizer",
    "write_siglip_tokenizer",
]

_ASCII = [chr(code) for code in range(33, 127)]


def write_clip_tokenizer(folder: Path) -> int:
    """CLIP's own byte-pair vocabulary, which comes with open_clip: vocab.json and merges.txt."""
    file = next(each for each in metadata.files("open_clip_torch") or () if each.name.startswith("bpe_simple_vocab"))
    lines = gzip.decompress(Path(str(file.locate())).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + number) for number in range(len(rest)))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(line.replace(" ", "") for line in lines)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    return len(tokens)


def write_gemma_tokenizer(
    folder: Path, *, letters: Iterable[str] = _ASCII, merges: Sequence[tuple[str, str]] = (), **changes: Any
) -> int:
    """Gemma's kind of tokenizer with letters and few words: capitals are others, and bytes are missing."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = dict.fromkeys([*special, "\u2581", *letters, *(left + right for left, right in merges)])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    step = {"id": "<eos>", "type_id": 0}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for number, token in enumerate(special)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": step}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
        },
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
        | {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "vocab": vocabulary, "merges": merges},
    }
    write_json(folder / "tokenizer.json", tokenizer)
    config = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    config |= {"unk_token": "<unk>", "add_bos_token": False, "add_eos_token": True, "model_max_length": 64}
    write_json(folder / "tokenizer_config.json", {**config, "padding_side": "right", **changes})
    return len(vocabulary)


def write_bert_tokenizer(folder: Path, *, length: int = 52) -> int:
    """A BERT of letters and some Chinese: vocab.txt."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_ASCII, *(f"##{letter}" for letter in _ASCII)]
    tokens += list("\u4e00\u53ea\u72d7\u5728\u96ea\u5730\u91cc")
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": length})
    return len(tokens)


def write_roberta_tokenizer(folder: Path) -> int:
    """XLM-RoBERTa's kind: unigrams of the texts of the tests."""
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=[*special, *_pieces(), ("<mask>", 0.0)], model_max_length=64)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_siglip_tokenizer(folder: Path) -> int:
    """The tokenizer.json of SigLIP's: T5's kind of unigram. Its own class needs the sentencepiece library."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = Tokenizer(models.Unigram([*special, *_pieces()], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", {**told, "model_max_length": 64})
    return int(tokenizer.get_vocab_size())


@cache
def _pieces() -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*VARIED_TEXTS, *(text.lower() for text in VARIED_TEXTS)], trainer)
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"] if piece != "<unk>"]


def write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")
