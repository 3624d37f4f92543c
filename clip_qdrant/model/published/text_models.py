"""Text models of transformers inside other models: their configuration as data, and what of it changes vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.plan import check_attention

__all__ = ["TEXT_MODELS", "identify_text_config", "make_text_config", "write_text_config"]

TEXT_MODELS = (
    "bert",
    "camembert",
    "distilbert",
    "electra",
    "m2m_100",
    "mpnet",
    "mt5",
    "roberta",
    "xlm-roberta",
)
# What changes vectors and cannot be seen from the weights, by the names that these models have for it.
_SHAPING = (
    "model_type",
    "num_attention_heads",
    "n_heads",
    "num_heads",
    "encoder_attention_heads",
    "hidden_act",
    "activation",
    "activation_function",
    "feed_forward_proj",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "pad_token_id",
    "d_kv",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "scale_embedding",
)
# What a version of transformers adds, or what other programs note there.
_NOTES = ("transformers_version", "dtype", "torch_dtype", "architectures", "_name_or_path", "auto_map")


def write_text_config(config: Any) -> dict[str, Any]:
    """What `make_text_config` makes the configuration of again, in JSON types."""
    values = json.loads(config.to_json_string(use_diff=True))
    return {name: value for name, value in values.items() if name not in _NOTES}


def make_text_config(values: Mapping[str, Any]) -> Any:
    """The configuration of a text model. Raises CheckpointError for one of another kind."""
    values = dict(values)
    family = values.pop("model_type", None)
    if family not in TEXT_MODELS:
        raise CheckpointError(f"its text model is of the family {family}; {', '.join(TEXT_MODELS)} are supported")
    check_attention(values)
    return AutoConfig.for_model(family, **values)


def identify_text_config(config: Any) -> dict[str, Any]:
    """What goes into a fingerprint."""
    return {name: getattr(config, name) for name in _SHAPING if getattr(config, name, None) is not None}
