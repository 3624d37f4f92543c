"""A checkpoint to a file: whole or not at all, in float32 or in half of its size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clip_qdrant.checkpoint_file.description import FORMAT, describe
from clip_qdrant.checkpoint_file.read import GRAPHS_FORMAT
from clip_qdrant.errors import CheckpointError, ExportError
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import build_network
from clip_qdrant.model.weights import fill_network, write_atomically

__all__ = ["StoredPrecision", "export_checkpoint", "save_checkpoint", "take_graphs", "write_checkpoint"]

logger = logging.getLogger(__name__)
MakeGraphs = Callable[[Checkpoint], Mapping[str, Any]]
StoredPrecision = Literal["float32", "float16", "bfloat16"]
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def save_checkpoint(
    checkpoint: Checkpoint, path: str | Path, *, half: bool = False, graphs: MakeGraphs | None = None
) -> str:
    """Write one file, atomically, and return the fingerprint of what a reader will get.

    `half` stores float16, half the size, at the price of rounding the weights: the fingerprint is of the rounded ones.
    The file carries the graphs of its encoders, by which it is opened without torch, where the checkpoint brings them
    along from its own file, or with `graphs`, which is `clip_qdrant.runtime.onnx_export.make_graphs` and takes 10 to
    60 s. A network that cannot be exported is saved without, which is logged.
    Raises CheckpointError when the file cannot be written, DiskFull where there is no room for it.
    """
    if half:
        checkpoint = _round(checkpoint, torch.float16)
    made = take_graphs(checkpoint)
    if made is None and graphs:
        try:
            made = graphs(checkpoint)
        except ExportError as error:
            logger.warning("%s is saved without graphs, and runs on torch alone: %s", path, error)
    weights = _take_weights(checkpoint)
    if half:
        weights = _convert(weights, torch.float16)
    return _write(checkpoint, weights, Path(path), made)


def export_checkpoint(
    checkpoint: Checkpoint, path: Path, graphs: MakeGraphs, *, precision: StoredPrecision = "float32"
) -> str:
    """Write one file with `graphs`, rounded to `precision`, and return the fingerprint. float16 where that is exact.

    Raises ExportError for a network that cannot be exported, and as `save_checkpoint`.
    """
    dtype = _DTYPES[precision]
    if dtype != torch.float32:
        checkpoint = _round(checkpoint, dtype)
    weights = _take_weights(checkpoint)
    made = take_graphs(checkpoint) or graphs(checkpoint)
    half = torch.bfloat16 if dtype == torch.bfloat16 else torch.float16
    if all(_fits(tensor, half) for tensor in weights.values()):
        weights = _convert(weights, half)
    return _write(checkpoint, weights, path, made)


def _round(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint as a reader of its rounded weights will see it. Raises CheckpointError where they do not fit."""
    weights = _convert(_take_weights(checkpoint), dtype)
    overflowed = [n for n, t in weights.items() if t.is_floating_point() and not t.isfinite().all()]
    if overflowed:
        raise CheckpointError(f"{overflowed[0]} does not fit float16: its precision stays float32, or bfloat16")
    model = build_network(checkpoint.config, checkpoint.preprocessing)
    fill_network(model, weights)
    return replace(checkpoint, model=model)


def take_graphs(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """The graphs it brings along, if they are still those of its network."""
    graphs = checkpoint.graphs
    if not isinstance(graphs, Mapping) or graphs.get("format") != GRAPHS_FORMAT:
        return None
    return graphs if all(graphs.get(name) == value for name, value in checkpoint.structure().items()) else None


def _take_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    module: nn.Module = checkpoint.model
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _convert(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    return not tensor.is_floating_point() or torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def _write(checkpoint: Checkpoint, weights: Mapping[str, Tensor], path: Path, graphs: Mapping[str, Any] | None) -> str:
    return write_checkpoint(
        checkpoint, path, config=checkpoint.config, weights=weights, graphs=graphs, fingerprint=checkpoint.fingerprint()
    )


def write_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    *,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    graphs: Mapping[str, Any] | None,
    fingerprint: str,
) -> str:
    """Write one file of these weights and graphs, and all else of a checkpoint. Returns the fingerprint.

    Raises CheckpointError when the file cannot be written, DiskFull where there is no room for it.
    """
    content = {
        "format": FORMAT,
        "config": dict(config),
        **describe(checkpoint),
        "tokenizer": checkpoint.tokenizer,
        "weights": dict(weights),
        "fingerprint": fingerprint,
        "graphs": graphs,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, RuntimeError) as error:
        raise_if_full(error, path.parent)
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
    return fingerprint
