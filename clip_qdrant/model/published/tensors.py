"""A file of named tensors that another library has written: nothing in it is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.weights import read_content

__all__ = ["read_tensors"]

_CONTAINERS = ("state_dict", "model")


def read_tensors(path: Path) -> dict[str, Any]:
    """The named tensors in a .safetensors or a `torch.save` file. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"cannot read the weights {path}: {first_line(error)}") from error
    content = read_content(path)
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = dict(content[name])
    return content
