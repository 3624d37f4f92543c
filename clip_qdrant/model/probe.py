"""Whether a checkpoint does what an embedder will ask of it, tried before anybody relies on it."""

from __future__ import annotations

from pathlib import Path

import torch

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model_inputs.probe import probe_tokenizer

__all__ = ["probe_checkpoint"]

_TEXTS = ("a photo of a dog", "Two cats, 3.5 m apart: don't STOP!! 猫 " * 20, "a" * 60 + "!")


def probe_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Raises CheckpointError, naming `path`, unless all weights are numbers and a text becomes a row of its length."""
    broken = [name for name, weight in checkpoint.model.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} has weights that are no numbers (NaN or infinite), {len(broken)} of them, {broken[0]} among them: "
            "its training went astray, or its file is damaged"
        )
    tokenize = probe_tokenizer(checkpoint.tokenizer, checkpoint.tokenization, checkpoint.model.vocabulary, path)
    try:
        ids, mask = tokenize(_TEXTS)
        with torch.inference_mode():
            rows = checkpoint.model.encode_text(torch.from_numpy(ids[:1]), torch.from_numpy(mask[:1]))
    except Exception as error:  # whatever a network makes of its numbers
        raise CheckpointError(f"{path} holds a model that embeds no text: {first_line(error)}") from error
    if rows.shape != (1, checkpoint.model.dim):
        raise CheckpointError(
            f"{path} makes rows of {rows.shape[-1]} numbers of texts, and says {checkpoint.model.dim}"
        )
