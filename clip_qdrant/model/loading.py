"""Checkpoints from wherever they are: a file of ours, a bare state dict of the tutorial lineage, or a hub name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from clip_qdrant.calibration.curves import Calibration
from clip_qdrant.content import BUNDLED, bundled_checkpoint
from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model import tutorial
from clip_qdrant.model.checkpoint import FORMAT, Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.plan import build_plan, check_attention, check_values
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.weights import compare_weights, fill_network, read_content
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.model_inputs.tokenization import Tokenization
from clip_qdrant.model_names import split_pair

__all__ = ["build_network", "load_checkpoint", "read_checkpoint"]

_REQUIRED = ("config", "preprocessing", "tokenization", "tokenizer", "weights", "fingerprint")


def read_checkpoint(source: str) -> Checkpoint:
    """The checkpoint at a path, behind "hf:<name or folder>" or "open_clip:<name>", of a pair of models, or "bundled".

    Raises CheckpointError, and MissingExtra for models of open_clip where that is not installed.
    """
    if source == BUNDLED:
        return load_checkpoint(bundled_checkpoint())
    if pair := split_pair(source):
        from clip_qdrant.model.published.pairs.load import load_pair

        image, text = pair
        return load_pair(read_checkpoint(image), text, build_network)
    if source.startswith("hf:"):
        from clip_qdrant.model.published.load import load_published  # parts of transformers that a file does not need

        return load_published(source.removeprefix("hf:"))
    if source.startswith("open_clip:"):
        from clip_qdrant.model.published.open_clip.load import load_named

        return load_named(source.removeprefix("open_clip:"))
    return load_checkpoint(source)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours, or a bare state dict of the tutorial lineage.

    Raises CheckpointError for a file that is missing, damaged, foreign, of a newer format, bears a pickle, or describes
    more than it holds. What it describes is compared with what it holds before memory is taken for it.
    """
    content = read_content(path)
    if "format" not in content:
        return tutorial.read_state_dict(content, path)
    found = content.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found!r}, not {FORMAT}: update clip-qdrant")
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise CheckpointError(f"{path} is not a whole checkpoint: {', '.join(missing)} missing")
    config, weights, tokenizer = (content[name] for name in ("config", "weights", "tokenizer"))
    if not isinstance(weights, Mapping) or not isinstance(tokenizer, str):
        raise CheckpointError(f"{path} holds a {type(weights).__name__} in place of weights, or no text as tokenizer")
    try:
        check_values(*(value for name, value in content.items() if name not in ("weights", "tokenizer")))
        check_attention(config)
        preprocessing = Preprocessing.from_dict(content["preprocessing"])
        tokenization = Tokenization(**content["tokenization"])
        trained_on = tuple(map(str, content.get("trained_on", ())))
        metrics = {str(name): float(value) for name, value in dict(content.get("metrics", {})).items()}
        prompts = Prompts.from_dict(content.get("prompts"))
        told = content.get("calibration")
        calibration = None if told is None else Calibration.from_dict(told)
        plan = build_plan(lambda: build_network(dict(config), preprocessing), len(weights))
    except Exception as error:  # the libraries raise whatever a description makes them meet
        raise CheckpointError(f"{path} describes a network that cannot be built: {first_line(error)}") from error
    compare_weights(plan, weights, path)
    model = build_network(dict(config), preprocessing)
    fill_network(model, weights)
    checkpoint = Checkpoint(
        model,
        preprocessing,
        tokenization,
        tokenizer,
        trained_on=trained_on,
        metrics=metrics,
        prompts=prompts,
        calibration=calibration,
    )
    if checkpoint.fingerprint() != content["fingerprint"]:
        raise CheckpointError(f"{path} is damaged: its weights are not those its fingerprint was made of")
    probe_checkpoint(checkpoint, path)
    return checkpoint


def build_network(config: dict[str, Any], preprocessing: Preprocessing) -> nn.Module:
    """The network that `Checkpoint.config` describes, in eval mode, with fresh weights. `config` is used up."""
    family = config.pop("family", None)
    if family == "dual_encoder":
        return DualEncoder(DualEncoderConfig(**config), preprocessing).eval()
    if family == "transformers":
        from clip_qdrant.model.published.encoder import build_encoder

        return build_encoder(config, preprocessing).eval()
    if family == "open_clip":
        from clip_qdrant.model.published.open_clip.network import build_open_clip

        return build_open_clip(config, preprocessing).eval()
    if family == "pair":
        from clip_qdrant.model.published.pairs.network import build_pair

        return build_pair(config, preprocessing, build_network).eval()
    known = "dual_encoder, transformers, open_clip and pair are known"
    raise CheckpointError(f"network family {family!r} is unknown: {known}")
