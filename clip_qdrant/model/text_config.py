"""What a new dual encoder keeps of the configuration of its text encoder: what builds it anew, and nothing else.

It stands in the fingerprint, and so must not depend on the version of transformers that read the model: which values
a version knows, writes out or adds. Those that are the defaults of their class are therefore left out.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

__all__ = ["describe_text_config"]

# What a configuration says of its file, of what its model was trained for, and of how it is called.
_INERT = frozenset(
    (
        *("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "auto_map"),
        *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task"),
        *("use_cache", "return_dict", "output_attentions", "output_hidden_states", "gradient_checkpointing"),
        *("initializer_range", "initializer_factor", "classifier_dropout", "seq_classif_dropout", "qa_dropout"),
        *("tie_word_embeddings", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"),
    )
)


def describe_text_config(config: PretrainedConfig) -> dict[str, Any]:
    """The `text` of a DualEncoderConfig, in JSON types."""
    defaults = type(config)().to_dict()
    values = {
        name: value
        for name, value in config.to_dict().items()
        if name in defaults and value != defaults[name] and name not in _INERT
    }
    return {**values, "model_type": config.model_type}
