"""How open_clip prepares images and texts, as data: preprocess_cfg, CLIP's tokenizer or one of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.hub import load_hub_tokenizer
from clip_qdrant.model.published.open_clip.library import import_open_clip
from clip_qdrant.model.published.open_clip.network import takes_short_texts
from clip_qdrant.model.published.open_clip.source import OpenClipSource
from clip_qdrant.model_inputs.preprocessing import EXACT_MARGIN, Preprocessing, Resize
from clip_qdrant.model_inputs.text_cleaning import CLEANINGS
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["make_preprocessing", "make_tokenization"]

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_RESIZE: Mapping[str, Resize] = {"shortest": "crop", "squash": "squash", "longest": "pad"}
_CONTEXT = 77
_START, _END = "<start_of_text>", "<end_of_text>"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def make_preprocessing(preprocess: Mapping[str, Any], model: Mapping[str, Any]) -> Preprocessing:
    """What a preprocess_cfg asks for. Raises CheckpointError for what is not known."""
    size = model["vision_cfg"].get("image_size", 224)
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    if len(set(sides)) != 1:
        raise CheckpointError(f"it takes images of {sides[0]} by {sides[1]} pixels; only squares are supported")
    mode, resize = preprocess.get("mode") or "RGB", preprocess.get("resize_mode") or "shortest"
    if mode != "RGB" or resize not in _RESIZE:
        raise CheckpointError(f"its preprocess_cfg asks for mode {mode!r} and resize_mode {resize!r}")
    interpolation = preprocess.get("interpolation") or "bicubic"
    return Preprocessing(
        image_size=sides[0],
        resize=_RESIZE[resize],
        offset="round",
        margin=EXACT_MARGIN,
        fill=int(preprocess.get("fill_color") or 0) if resize == "longest" else 0,
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        mean=_three(preprocess.get("mean") or _MEAN),
        std=_three(preprocess.get("std") or _STD),
    )


def _three(value: Any) -> tuple[float, float, float]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    return (float(values[0]), float(values[1]), float(values[2]))


def make_tokenization(source: OpenClipSource, pad_of_model: int | None) -> tuple[str, Tokenization, int | None]:
    """The text of a tokenizer.json, how texts are prepared, and the id that is taken for padding, if there is one.

    `pad_of_model` is the padding that a text model of transformers masks. Raises CheckpointError.
    """
    text = source.model["text_cfg"]
    options = dict(text.get("tokenizer_kwargs") or {})
    cleaning = options.pop("clean", "whitespace" if source.tokenizer else "lower")
    if text.get("tokenizer_mode") or cleaning not in CLEANINGS[1:]:
        asked = text.get("tokenizer_mode") or cleaning
        raise CheckpointError(f"its tokenizer works in the mode {asked!r}, which is not supported")
    strip, extra = options.pop("strip_sep_token", False), options.pop("additional_special_tokens", None) or []
    if options:
        raise CheckpointError(f"its tokenizer wants {', '.join(sorted(options))}, which is not supported")
    length = int(text.get("context_length") or _CONTEXT)
    if not source.tokenizer:
        short = takes_short_texts(source.model)
        tokenization = Tokenization(
            length, padding="longest" if short else "max_length", pad_id=0, pad_token="!", cleaning=cleaning
        )
        return make_simple_tokenizer(tuple(map(str, extra))), tokenization, None
    tokenizer = load_hub_tokenizer(source.tokenizer, source.label)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.pad_token_id is None or tokenizer.padding_side != "right":
        raise CheckpointError(
            f"{source.label} has a tokenizer that the tokenizers library cannot run, or without padding"
        )
    backend.no_truncation()
    backend.no_padding()
    pad = int(tokenizer.pad_token_id)
    short = takes_short_texts(source.model) if pad_of_model is None else pad == pad_of_model
    tokenization = Tokenization(
        length,
        padding="longest" if short else "max_length",
        pad_id=pad,
        pad_token=str(tokenizer.pad_token),
        cleaning=cleaning,
    )
    return str(backend.to_str()), tokenization, int(tokenizer.sep_token_id) if strip else None


@lru_cache(maxsize=1)
def make_simple_tokenizer(extra: tuple[str, ...] = ()) -> str:
    """open_clip's SimpleTokenizer, CLIP's byte-pair encoding, as the text of a tokenizer.json."""
    simple = import_open_clip().SimpleTokenizer(additional_special_tokens=list(extra))
    tokenizer = Tokenizer(
        models.BPE(vocab=simple.encoder, merges=list(simple.bpe_ranks), end_of_word_suffix="</w>", unk_token=None)
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (_START, _END, *extra)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}",
        special_tokens=[(_START, simple.sot_token_id), (_END, simple.eot_token_id)],
    )
    return str(tokenizer.to_str())
