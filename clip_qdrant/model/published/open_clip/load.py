"""A model of open_clip as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from clip_qdrant.errors import CheckpointError, ClipQdrantError, first_line
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.plan import build_plan
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.published.hub import load_hub_config
from clip_qdrant.model.published.open_clip.inputs import make_preprocessing, make_tokenization
from clip_qdrant.model.published.open_clip.network import build_open_clip, trim_model
from clip_qdrant.model.published.open_clip.source import OpenClipSource, find_named
from clip_qdrant.model.published.open_clip.weights import rename_weights
from clip_qdrant.model.published.tensors import read_tensors
from clip_qdrant.model.published.text_models import TEXT_MODELS, write_text_config
from clip_qdrant.model.weights import compare_weights, fill_network

__all__ = ["load_named", "load_open_clip"]


def load_open_clip(source: OpenClipSource, *, trained_on: str) -> Checkpoint:
    """The checkpoint. `trained_on` is noted in it. Raises CheckpointError, MissingExtra."""
    try:
        checkpoint = _load(source, trained_on)
    except ClipQdrantError as error:
        if not isinstance(error, CheckpointError) or source.label in str(error) or str(source.weights) in str(error):
            raise
        raise CheckpointError(f"cannot load {source.label}: {error}") from error
    except Exception as error:  # the libraries raise whatever a description makes them meet
        raise CheckpointError(f"cannot load {source.label}: {first_line(error)}") from error
    probe_checkpoint(checkpoint, source.label)
    return checkpoint


def load_named(name: str) -> Checkpoint:
    """open_clip:ARCHITECTURE/TAG or open_clip:ARCHITECTURE/FILE, without what stands before the colon."""
    source = find_named(name, f"open_clip:{name}")
    architecture, _, rest = name.partition("/")
    return load_open_clip(source, trained_on=f"open_clip:{architecture}/{Path(rest).name}")


def _load(source: OpenClipSource, trained_on: str) -> Checkpoint:
    config: dict[str, object] = {"model_cfg": trim_model(source.model)}
    pad_of_model = None
    if source.model["text_cfg"].get("hf_model_name"):
        text = load_hub_config(str(source.model["text_cfg"]["hf_model_name"]), source.label, families=TEXT_MODELS)
        config["text_model"] = write_text_config(text)
        pad_of_model = text.pad_token_id
    preprocessing = make_preprocessing(source.preprocess, source.model)
    tokenizer, tokenization, blank_id = make_tokenization(source, pad_of_model)
    if blank_id is not None:
        config["blank_id"] = blank_id
    weights = read_tensors(source.weights)
    plan = build_plan(lambda: build_open_clip(config, preprocessing).model, len(weights))
    weights = rename_weights(weights, plan)
    compare_weights(plan, weights, source.weights)
    encoder = build_open_clip(config, preprocessing)
    fill_network(encoder.model, weights)
    return Checkpoint(encoder.eval(), preprocessing, tokenization, tokenizer, trained_on=(trained_on,))
