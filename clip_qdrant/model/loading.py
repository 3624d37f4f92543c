"""Checkpoints from wherever they are: a file of ours, a bare state dict of the tutorial lineage, or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from clip_qdrant.errors import CheckpointError, ClipQdrantError, first_line
from clip_qdrant.model import tutorial
from clip_qdrant.model.checkpoint import FORMAT, Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.weights import LOAD_ERRORS, fill_network, read_content
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization

__all__ = ["build_network", "load_checkpoint", "read_checkpoint"]

_REQUIRED = ("config", "preprocessing", "tokenization", "tokenizer", "weights", "fingerprint")


def read_checkpoint(source: str) -> Checkpoint:
    """The checkpoint at a path or behind "hf:<name or folder>". Raises CheckpointError."""
    if source.startswith("hf:"):
        from clip_qdrant.model.pretrained import load_pretrained  # parts of transformers that a file does not need

        return load_pretrained(source.removeprefix("hf:"))
    return load_checkpoint(source)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours, or a bare state dict of the tutorial lineage.

    Raises CheckpointError for a file that is missing, damaged, foreign, of a newer format, or bears a pickle.
    """
    content = read_content(path)
    if "weights" not in content and "format" not in content:
        return tutorial.from_state_dict(content, path)
    found = content.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found!r}, not {FORMAT}: update clip-qdrant")
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise CheckpointError(f"{path} is not a whole checkpoint: {', '.join(missing)} missing")
    try:
        checkpoint = Checkpoint(
            model=build_network(dict(content["config"]), Preprocessing.from_dict(content["preprocessing"])),
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            tokenization=Tokenization(**content["tokenization"]),
            tokenizer=str(content["tokenizer"]),
            trained_on=tuple(content.get("trained_on", ())),
            metrics=dict(content.get("metrics", {})),
        )
    except (*LOAD_ERRORS, ArithmeticError, ClipQdrantError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {first_line(error)}") from error
    fill_network(checkpoint.model, content["weights"], path)
    try:
        TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    except Exception as error:  # the tokenizers library raises Exception itself
        raise CheckpointError(f"{path} holds a tokenizer that cannot be read: {first_line(error)}") from error
    if checkpoint.fingerprint() != content["fingerprint"]:
        raise CheckpointError(f"{path} is damaged: its weights are not those its fingerprint was made of")
    return checkpoint


def build_network(config: dict[str, Any], preprocessing: Preprocessing) -> nn.Module:
    """The network that `Checkpoint.config` describes, in eval mode, with fresh weights. `config` is used up."""
    family = config.pop("family", None)
    if family == "dual_encoder":
        return DualEncoder(DualEncoderConfig(**config), preprocessing).eval()
    if family == "transformers":
        from clip_qdrant.model.pretrained import build_encoder

        return build_encoder(config, preprocessing).eval()
    raise CheckpointError(f"network family {family!r} is unknown: dual_encoder and transformers are known")
