"""Files of named tensors: read without executing anything, written whole or not at all, and filled into a network."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.file_replacement import open_replacement
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["LOAD_ERRORS", "fill_network", "list_some", "read_content", "write_atomically"]

# What torch.load raises on files that are damaged, foreign or bear a pickle it refuses (torch 2.6 to 2.14).
LOAD_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ImportError,
    AssertionError,
    OverflowError,
    MemoryError,
)


def read_content(path: str | Path) -> dict[str, Any]:
    """The containers and tensors in a `torch.save` file. Executes nothing; raises CheckpointError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {mask_secrets(str(path))}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    except LOAD_ERRORS as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read safely (damaged, foreign, or it bears a pickle): "
            f"{first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint or a state dict")
    return content


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save` to a file that is replaced whole."""
    with open_replacement(path) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # what torch makes of a write that failed does not say why it did
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def fill_network(model: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Load weights strictly; the error names the keys that are missing, foreign or of another shape."""
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds a {type(weights).__name__} in place of weights")
    expected = model.state_dict()
    problems = []
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        strangers = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
        problems.append(f"not tensors: {list_some(strangers)}")
        weights = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if missing := [name for name in expected if name not in weights]:
        problems.append(f"missing: {list_some(missing)}")
    if foreign := [name for name in weights if name not in expected]:
        problems.append(f"unknown: {list_some(foreign)}")
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {list_some(shapes)}")
    if problems:
        raise CheckpointError(f"the weights in {path} do not fit their network; {'; '.join(problems)}")
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in weights.items()})


def list_some(names: list[str], limit: int = 5) -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
