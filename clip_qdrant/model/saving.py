"""A checkpoint to a file: whole or not at all, in float32 or in half of its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import FORMAT, Checkpoint
from clip_qdrant.model.loading import build_network
from clip_qdrant.model.weights import write_atomically

__all__ = ["save_checkpoint"]


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, half: bool = False) -> str:
    """Write one file, atomically, and return the fingerprint of what a reader will get.

    `half` stores float16, half the size, at the price of rounding the weights: the fingerprint is of the rounded ones.
    Raises CheckpointError when the file cannot be written, DiskFull where there is no room for it.
    """
    module: nn.Module = checkpoint.model
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
        overflowed = [n for n, t in weights.items() if t.is_floating_point() and not t.isfinite().all()]
        if overflowed:
            raise CheckpointError(f"{overflowed[0]} does not fit float16: save with half=False")
        checkpoint = _replace_weights(checkpoint, weights)
    fingerprint = checkpoint.fingerprint()
    content = {
        "format": FORMAT,
        "config": checkpoint.config,
        "preprocessing": checkpoint.preprocessing.to_dict(),
        "tokenization": checkpoint.tokenization.to_dict(),
        "tokenizer": checkpoint.tokenizer,
        "weights": weights,
        "trained_on": list(checkpoint.trained_on),
        "metrics": dict(checkpoint.metrics),
        "prompts": None if checkpoint.prompts is None else checkpoint.prompts.to_dict(),
        "calibration": checkpoint.calibration.to_dict() if checkpoint.calibration is not None else None,
        "fingerprint": fingerprint,
    }
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, RuntimeError) as error:
        raise_if_full(error, path.parent)
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
    return fingerprint


def _replace_weights(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Checkpoint:
    """The checkpoint as a reader of these weights will see it."""
    model = build_network(checkpoint.config, checkpoint.preprocessing)
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in weights.items()})
    return replace(checkpoint, model=model)
