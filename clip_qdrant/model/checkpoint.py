"""Checkpoints: one self-describing file that holds everything to embed with.

The file is a `torch.save` of plain containers and tensors: `format, config, preprocessing, tokenization, tokenizer,
weights, trained_on, metrics, fingerprint`. It is read with `weights_only=True`, so nothing in it is ever executed,
and needs no network: the tokenizer is inside.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError, ClipQdrantError, first_line
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.runtime.preprocessing import Preprocessing
from clip_qdrant.runtime.tokenization import TextTokenizer, Tokenization

__all__ = ["Checkpoint", "EncoderPair", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
_REQUIRED = ("config", "preprocessing", "tokenization", "tokenizer", "weights", "fingerprint")
# What torch.load raises on files that are damaged, foreign or bear a pickle it refuses (torch 2.6 to 2.14).
_LOAD_ERRORS = (
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


class EncoderPair(Protocol):
    """What a checkpoint's network offers, whichever family it is of."""

    @property
    def dim(self) -> int: ...
    def encode_image(self, pixels: Tensor) -> Tensor: ...
    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Checkpoint:
    """A network with all it needs to embed images and texts. `model` is in eval mode, float32, on the CPU."""

    model: Any  # an nn.Module that is an EncoderPair; Python has no intersection types
    preprocessing: Preprocessing
    tokenization: Tokenization
    tokenizer: str  # the text of a tokenizer.json
    trained_on: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the network: `family` and that family's fields."""
        if isinstance(self.model, DualEncoder):
            return {"family": "dual_encoder", **self.model.config.to_dict()}
        return {"family": "transformers", **self.model.config_dict()}

    def meta(self) -> dict[str, Any]:
        """What an embedder must know of it to embed on whatever runtime, in JSON types."""
        return {
            "fingerprint": self.fingerprint(),
            "dim": self.model.dim,
            "preprocessing": self.preprocessing.to_dict(),
            "tokenization": self.tokenization.to_dict(),
            "trained_on": list(self.trained_on),
            "metrics": dict(self.metrics),
        }

    def fingerprint(self) -> str:
        """sha256 over the float32 weights and all that shapes a vector: equal for a half-precision copy read back."""
        module: nn.Module = self.model
        digest = hashlib.sha256(
            json.dumps(
                {
                    "config": self.config,
                    "preprocessing": self.preprocessing.to_dict(),
                    "tokenization": self.tokenization.to_dict(),
                    "tokenizer": hashlib.sha256(self.tokenizer.encode()).hexdigest(),
                },
                sort_keys=True,
            ).encode()
        )
        for name, tensor in sorted(module.state_dict().items()):
            value = tensor.detach().cpu()
            value = value.float() if value.is_floating_point() else value.long()
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().data)
        return digest.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, half: bool = False) -> str:
    """Write one file, atomically, and return the fingerprint of what a reader will get.

    `half` stores float16, half the size, at the price of rounding the weights: the fingerprint is of the rounded ones.
    Raises CheckpointError when the file cannot be written.
    """
    module: nn.Module = checkpoint.model
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
        overflowed = [n for n, t in weights.items() if t.is_floating_point() and not t.isfinite().all()]
        if overflowed:
            raise CheckpointError(f"{overflowed[0]} does not fit float16: save with half=False")
        checkpoint = _rebuilt(checkpoint, weights)
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
        "fingerprint": fingerprint,
    }
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
    return fingerprint


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save` to a neighbour, fsync, rename: the file is the old one or the new one, never half of either."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                torch.save(dict(content), file)
            except RuntimeError as error:  # what torch makes of a write that failed does not say why it did
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours, or a bare state dict of the tutorial lineage.

    Raises CheckpointError for a file that is missing, damaged, foreign, of a newer format, or bears a pickle.
    """
    content = read_content(path)
    if "weights" not in content and "format" not in content:
        from clip_qdrant.model.lineage import from_state_dict  # builds on this module

        return from_state_dict(content, path)
    found = content.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found!r}, not {FORMAT}: update clip-qdrant")
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise CheckpointError(f"{path} is not a whole checkpoint: {', '.join(missing)} missing")
    try:
        checkpoint = Checkpoint(
            model=_build(dict(content["config"]), Preprocessing.from_dict(content["preprocessing"])),
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            tokenization=Tokenization(**content["tokenization"]),
            tokenizer=str(content["tokenizer"]),
            trained_on=tuple(content.get("trained_on", ())),
            metrics=dict(content.get("metrics", {})),
        )
    except (*_LOAD_ERRORS, ArithmeticError, ClipQdrantError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {first_line(error)}") from error
    fill(checkpoint.model, content["weights"], path)
    try:
        TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    except Exception as error:  # the tokenizers library raises Exception itself
        raise CheckpointError(f"{path} holds a tokenizer that cannot be read: {first_line(error)}") from error
    if checkpoint.fingerprint() != content["fingerprint"]:
        raise CheckpointError(f"{path} is damaged: its weights are not those its fingerprint was made of")
    return checkpoint


def read_content(path: str | Path) -> dict[str, Any]:
    """The containers and tensors in a `torch.save` file. Executes nothing; raises CheckpointError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    except _LOAD_ERRORS as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read safely (damaged, foreign, or it bears a pickle): "
            f"{first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint or a state dict")
    return content


def _build(config: dict[str, Any], preprocessing: Preprocessing) -> nn.Module:
    family = config.pop("family", None)
    if family == "dual_encoder":
        return DualEncoder(DualEncoderConfig(**config), preprocessing).eval()
    if family == "transformers":
        from clip_qdrant.model.pretrained import build

        return build(config, preprocessing).eval()
    raise CheckpointError(f"network family {family!r} is unknown: dual_encoder and transformers are known")


def _rebuilt(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Checkpoint:
    """The checkpoint as a reader of these weights will see it."""
    model = _build(checkpoint.config, checkpoint.preprocessing)
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in weights.items()})
    return replace(checkpoint, model=model)


def fill(model: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Load weights strictly; the error names the keys that are missing, foreign or of another shape."""
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds a {type(weights).__name__} in place of weights")
    expected = model.state_dict()
    problems = []
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        strangers = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
        problems.append(f"not tensors: {some(strangers)}")
        weights = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if missing := [name for name in expected if name not in weights]:
        problems.append(f"missing: {some(missing)}")
    if foreign := [name for name in weights if name not in expected]:
        problems.append(f"unknown: {some(foreign)}")
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {some(shapes)}")
    if problems:
        raise CheckpointError(f"the weights in {path} do not fit their network; {'; '.join(problems)}")
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in weights.items()})


def some(names: list[str], limit: int = 5) -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
