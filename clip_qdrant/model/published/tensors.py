"""A file of named tensors that another library has written: nothing in it is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.containers import open_containers
from clip_qdrant.model.weights import read_content

__all__ = ["read_tensors"]


def read_tensors(path: Path) -> dict[str, Any]:
    """The named tensors in a .safetensors or a `torch.save` file. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"cannot read the weights {path}: {first_line(error)}") from error
    return dict(open_containers(read_content(path)))
