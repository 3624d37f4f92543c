"""Files of named tensors: read without executing anything, written whole or not at all, and filled into a network."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.file_replacement import open_replacement
from clip_qdrant.model_names import suggest_name
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["check_archive", "compare_weights", "fill_network", "list_some", "read_content", "write_atomically"]

_WAY_OUT = "where the code of its model is, torch.save(model.state_dict(), PATH) writes the weights alone"
_GROWTH = 4  # bytes of weights for a byte of a file in which several of them share what is stored


def read_content(path: str | Path) -> dict[str, Any]:
    """The containers and tensors in a `torch.save` file. Executes nothing; raises CheckpointError."""
    if Path(path).suffix == ".safetensors":
        raise CheckpointError(
            f"{path} can hold weights alone: the folder of a CLIP or SigLIP model, with configuration and tokenizer, "
            f"is named hf:{Path(path).parent}"
        )
    try:
        check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {mask_secrets(str(path))}{suggest_name(path)}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}{suggest_name(path)}") from error
    except CheckpointError:
        raise
    except Exception as error:  # torch raises whatever a file makes it meet
        raise CheckpointError(
            _explain(path, str(error))
            or (
                f"{path} is not a checkpoint that can be read safely (damaged, foreign, or it bears a pickle)"
                + ("" if "weights" in str(error).lower() else f": {first_line(error)}")  # torch would have the file run
            )
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint or a state dict")
    return content


def _explain(path: str | Path, told: str) -> str | None:
    """What is in a file that torch would have to run, and the way out; `told` is what torch says of it."""
    found = re.search(r"GLOBAL ([\w.]+)", told)
    if found is None:
        return None
    return f"{path} holds a pickled {found[1]:.100}, not weights alone, and nothing pickled is run here: {_WAY_OUT}"


def check_archive(path: str | Path) -> None:
    """Raises CheckpointError for a zip file that would unpack to more than it is. torch itself compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds code and is not read here: {_WAY_OUT}; OpenAI's CLIP models "
            "are on the hub too, as hf:openai/clip-vit-base-patch32"
        )
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise CheckpointError(f"{path} has compressed records, which no checkpoint has: save it by torch.save")
    unpacked, size = sum(record.file_size for record in records), Path(path).stat().st_size
    if unpacked > size:
        raise CheckpointError(f"{path} says that it holds {unpacked:,} bytes, and has only {size:,}")


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save` to a file that is replaced whole."""
    with open_replacement(path) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # what torch makes of a write that failed does not say why it did
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def compare_weights(plan: nn.Module, weights: Any, path: str | Path) -> None:
    """Raises CheckpointError unless the weights are those of the network, whole and really there.

    `plan` may be on the meta device. The error names the keys that are missing, foreign or of another shape.
    """
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds a {type(weights).__name__} in place of weights")
    expected = plan.state_dict()
    problems = []
    if strangers := [str(name) for name, value in weights.items() if not _is_plain(value)]:
        problems.append(f"not plain tensors: {list_some(strangers)}")
    weights = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if missing := [name for name in expected if name not in weights]:
        problems.append(f"missing: {list_some(missing)}")
    if foreign := [str(name) for name in weights if name not in expected]:
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
    _check_size(plan, weights.values(), path)


def _is_plain(value: object) -> bool:
    """Whether it is a tensor whose numbers all lie in memory: no sparse one, none of the meta device, no quantised."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def _check_size(plan: nn.Module, weights: Iterable[Tensor], path: str | Path) -> None:
    """Many weights may be views of the same few bytes, and a network may compute tensors that no file has."""
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in weights}
    room = _GROWTH * sum(stored.values()) + (64 << 20)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in (*plan.parameters(), *plan.buffers()))
    if needed > room:
        raise CheckpointError(
            f"{path} describes a network of {needed:,} bytes, and has weights of {sum(stored.values()):,} bytes"
        )


def fill_network(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights that `compare_weights` has passed, as float32."""
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in weights.items()})


def list_some(names: list[str], limit: int = 5) -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
