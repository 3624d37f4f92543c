"""Checkpoints from wherever they are: a file of ours, a bare state dict of the tutorial lineage, or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from clip_qdrant.checkpoint_file.description import read_description
from clip_qdrant.content import BUNDLED, bundled_checkpoint
from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model import tutorial
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.plan import build_plan, check_attention
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.weights import compare_weights, fill_network, read_content
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_names import split_pair

__all__ = ["build_network", "load_checkpoint", "read_checkpoint"]


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
    description = read_description(content, path)
    config, weights = description.config, content["weights"]
    try:
        check_attention(config)
        plan = build_plan(lambda: build_network(dict(config), description.preprocessing), len(weights))
    except Exception as error:  # the libraries raise whatever a description makes them meet
        raise CheckpointError(f"{path} describes a network that cannot be built: {first_line(error)}") from error
    compare_weights(plan, weights, path)
    model = build_network(dict(config), description.preprocessing)
    fill_network(model, weights)
    checkpoint = Checkpoint(
        model,
        description.preprocessing,
        description.tokenization,
        description.tokenizer,
        trained_on=description.trained_on,
        metrics=description.metrics,
        prompts=description.prompts,
        calibration=description.calibration,
        graphs=content.get("graphs"),
    )
    if checkpoint.fingerprint() != description.fingerprint:
        raise CheckpointError(f"{path} is damaged: its weights are not those its fingerprint was made of")
    probe_checkpoint(checkpoint, path)
    return checkpoint


def build_network(config: dict[str, Any], preprocessing: Preprocessing) -> nn.Module:
    """The network that `Checkpoint.config` describes, in eval mode, with fresh weights. `config` is used up."""
    family = config.pop("family", None)
    if family == "int8":
        raise CheckpointError(
            "its encoders are in int8, which runs on ONNX Runtime alone: torch and training take the model that it was "
            f"made of, whose fingerprint is {str(config.get('of'))[:12]}"
        )
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
