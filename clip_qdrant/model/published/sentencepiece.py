"""SigLIP's spiece.model as a tokenizer.json, read without the sentencepiece library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from clip_qdrant.errors import CheckpointError, MissingExtra, first_line

__all__ = ["convert_siglip"]

_UNIGRAM, _UNKNOWN = 1, 2  # of sentencepiece_model.proto


def convert_siglip(file: Path, label: str) -> str:
    """The text of a tokenizer.json that gives the ids of transformers' SiglipTokenizer. Raises CheckpointError."""
    proto = _parse(file, label)
    if proto.trainer_spec.model_type != _UNIGRAM:
        raise CheckpointError(f"{label} has a {file.name} that is no unigram model; copy its tokenizer.json beside it")
    unknown = next((i for i, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN), None)
    tokenizer = Tokenizer(
        models.Unigram(
            [(piece.piece, piece.score) for piece in proto.pieces], unknown, bool(proto.trainer_spec.byte_fallback)
        )
    )
    rules: list[Any] = []
    if proto.normalizer_spec.precompiled_charsmap:
        rules.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence([*rules, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    end = tokenizer.token_to_id("</s>")
    if end is None:
        raise CheckpointError(f"{label} has a {file.name} without </s>, which ends each text of SigLIP")
    special = ["</s>"] if unknown is None else ["</s>", proto.pieces[unknown].piece]
    tokenizer.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return str(tokenizer.to_str())


def _parse(file: Path, label: str) -> Any:
    try:
        from transformers.utils import sentencepiece_model_pb2_new as messages
    except ImportError as error:
        raise MissingExtra("protobuf", "torch", f"reading {file.name}") from error
    proto: Any = vars(messages)["ModelProto"]()  # made by protobuf at import
    try:
        proto.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf raises its own, of which it has several
        raise CheckpointError(f"cannot load {label}: its {file.name} cannot be read: {first_line(error)}") from error
    return proto
