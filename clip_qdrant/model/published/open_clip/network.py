"""A model of open_clip behind `encode_image` and `encode_text`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.model.published.open_clip.library import import_open_clip
from clip_qdrant.model.published.text_models import identify_text_config, make_text_config
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["OpenClipEncoder", "build_open_clip", "takes_short_texts", "trim_model"]

_KNOWN = {
    "embed_dim",
    "vision_cfg",
    "text_cfg",
    "quick_gelu",
    "init_logit_scale",
    "init_logit_bias",
    "nonscalar_logit_scale",
}
_FOR_CAPTIONS = {"multimodal_cfg", "custom_text"}  # CoCa's decoder; how weights are named
# What says where weights come from, how to train, and how to make token ids: not how images and texts are encoded.
_NOT_OF_NETWORK = {
    "vision_cfg": {"output_tokens", "timm_model_pretrained", "timm_drop", "timm_drop_path", "patch_dropout"},
    "text_cfg": {
        "output_tokens",
        "hf_model_name",
        "hf_model_pretrained",
        "hf_tokenizer_name",
        "tokenizer_kwargs",
        "tokenizer_mode",
    },
}
# Seen from the names and shapes of the weights, or of no effect on directions.
_SEEN_ELSEWHERE = {
    "embed_dim",
    "init_logit_scale",
    "init_logit_bias",
    "nonscalar_logit_scale",
    "layers",
    "width",
    "patch_size",
    "mlp_ratio",
    "vocab_size",
    "context_length",
    "image_size",
    "ls_init_value",
}
# What open_clip takes where nothing is said: said or not, it is the same model.
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": ("default",),
    "head_width": (64,),
    "heads": (8,),
    "attn_pooler_heads": (8,),
    "attn_pooler_queries": (256,),
    "eos_id": (2,),
    "timm_pool": ("avg",),
    "timm_proj": ("linear",),
    "hf_proj_type": ("mlp",),
    "hf_pooler_type": ("mean_pooler",),
}
_POOLS_OF_SHORT_TEXTS = ("argmax", "eos", "first")


def trim_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model_cfg describes the encoders. Raises CheckpointError for what is not known."""
    trimmed = {name: value for name, value in model.items() if name not in _FOR_CAPTIONS}
    if unknown := sorted(set(trimmed) - _KNOWN):
        raise CheckpointError(f"its model_cfg has {', '.join(unknown)}, which this version does not know")
    for part, dropped in _NOT_OF_NETWORK.items():
        trimmed[part] = {name: value for name, value in trimmed[part].items() if name not in dropped}
    return trimmed


def takes_short_texts(model: Mapping[str, Any]) -> bool:
    """Whether what stands after the end of a text changes nothing, so that texts need no padding to one length."""
    text = model["text_cfg"]
    return (
        not text.get("no_causal_mask")
        and not text.get("embed_cls")
        and text.get("pool_type", "argmax") in _POOLS_OF_SHORT_TEXTS
    )


class OpenClipEncoder(nn.Module):
    """A CustomTextCLIP of open_clip, to which its other classes are brought.

    `model_cfg` is as `trim_model` leaves it; `text_model` the configuration of a text model of transformers, if it has
    one. Where `blank_id` is given, that token is taken for padding, as open_clip's strip_sep_token does.
    """

    def __init__(
        self,
        model: Any,
        preprocessing: Preprocessing,
        model_cfg: Mapping[str, Any],
        *,
        text_model: Mapping[str, Any] | None = None,
        blank_id: int | None = None,
    ) -> None:
        super().__init__()
        self.pixel_norm = PixelNorm(preprocessing)
        self.model: Any = model
        self._model_cfg = dict(model_cfg)
        self._text_model = None if text_model is None else dict(text_model)
        self._blank_id = blank_id
        self._short = text_model is None and takes_short_texts(model_cfg)

    @property
    def dim(self) -> int:
        return int(self._model_cfg["embed_dim"])

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return int(self.model.text.vocab_size)

    def config_dict(self) -> dict[str, Any]:
        config: dict[str, Any] = {"family": "open_clip", "model_cfg": json.loads(json.dumps(self._model_cfg))}
        if self._text_model is not None:
            config["text_model"] = dict(self._text_model)
        if self._blank_id is not None:
            config["blank_id"] = self._blank_id
        return config

    def identity(self) -> dict[str, Any]:
        """What of the configuration changes vectors and cannot be seen from the weights."""
        config = self.config_dict()
        del config["model_cfg"]
        model = _describe(self._model_cfg)
        for part in ("vision_cfg", "text_cfg"):
            model[part] = _describe(self._model_cfg[part])
        if self._text_model is not None:
            config["text_model"] = identify_text_config(self.model.text.config)
        return {**config, **model}

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> unit rows (n, dim)."""
        return F.normalize(self.model.encode_image(self.pixel_norm(pixels)), dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 ids and mask (n, length) -> unit rows (n, dim). open_clip tells padding by its id, not by a mask."""
        if self._blank_id is not None:
            ids = torch.where(ids == self._blank_id, 0, ids)
        if self._text_model is not None:
            features = self._encode_by_transformers(ids)
        elif self._short:
            features = self._encode_short(ids)
        else:
            features = self.model.encode_text(ids)
        # The mask stays an input of the graph, so that all families have one signature.
        return F.normalize(features + 0 * mask[:, :1].to(features.dtype), dim=-1)

    def _encode_short(self, ids: Tensor) -> Tensor:
        """TextTransformer.forward of open_clip, which itself takes full length alone."""
        from open_clip.transformer import text_global_pool

        text, length = self.model.text, ids.shape[1]
        x = text.token_embedding(ids) + text.positional_embedding[:length]
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        x = text_global_pool(x, ids, text.pool_type, text.eos_id)
        if isinstance(text.text_projection, nn.Linear):
            x = text.text_projection(x)
        elif text.text_projection is not None:
            x = x @ text.text_projection
        rows: Tensor = x
        return rows

    def _encode_by_transformers(self, ids: Tensor) -> Tensor:
        """HFTextEncoder.forward of open_clip without the tokens that it selects by number, which no graph can hold."""
        text = self.model.text
        mask = (ids != text.config.pad_token_id).long()
        rows: Tensor = text.proj(text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask))
        return rows


def build_open_clip(config: Mapping[str, Any], preprocessing: Preprocessing) -> OpenClipEncoder:
    """The network of a saved configuration, with fresh weights. Raises CheckpointError, MissingExtra."""
    model_cfg = trim_model(config["model_cfg"])
    text_model, blank_id = config.get("text_model"), config.get("blank_id")
    trunk = model_cfg["vision_cfg"].get("timm_model_name")
    if trunk and (":" in trunk or "/" in trunk or not timm.is_model(trunk)):
        raise CheckpointError(f"its image encoder is {trunk!r}, which timm does not know")
    vision = {**model_cfg["vision_cfg"], "timm_model_pretrained": False}
    with tempfile.TemporaryDirectory() as folder:
        text = dict(model_cfg["text_cfg"])
        if text_model is not None:  # open_clip builds it by the name of a folder or repository
            make_text_config(text_model).save_pretrained(folder)
            text |= {"hf_model_name": folder, "hf_model_pretrained": False}
        model = import_open_clip().CustomTextCLIP(**{**model_cfg, "vision_cfg": vision, "text_cfg": text})
    return OpenClipEncoder(model, preprocessing, model_cfg, text_model=text_model, blank_id=blank_id)


def _describe(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not seen elsewhere; what is off, or as it is by default, says nothing."""
    return {
        name: value
        for name, value in values.items()
        if name not in _SEEN_ELSEWHERE
        and not name.endswith("_cfg")
        and value not in (None, False, {})
        and value not in _DEFAULTS.get(name, ())
    }
