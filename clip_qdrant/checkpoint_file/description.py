"""What a checkpoint file says of itself, besides its weights: read by torch and without it alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clip_qdrant.calibration.curves import Calibration
from clip_qdrant.checkpoint_file.values import check_values
from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["FORMAT", "CheckpointDescription", "Described", "describe", "read_description"]

FORMAT = 1
_REQUIRED = ("config", "preprocessing", "tokenization", "tokenizer", "weights", "fingerprint")
_NO_VALUES = ("weights", "tokenizer", "graphs")


class Described(Protocol):
    """What an embedder must know of a model besides its network: a checkpoint in memory, and the description of one."""

    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def tokenization(self) -> Tokenization: ...
    @property
    def trained_on(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def prompts(self) -> Prompts | None: ...
    @property
    def calibration(self) -> Calibration | None: ...


def describe(model: Described) -> dict[str, Any]:
    """The same in JSON types: in a file, and for an embedder."""
    return {
        "preprocessing": model.preprocessing.to_dict(),
        "tokenization": model.tokenization.to_dict(),
        "trained_on": list(model.trained_on),
        "metrics": dict(model.metrics),
        "prompts": None if model.prompts is None else model.prompts.to_dict(),
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
    }


@dataclass(frozen=True)
class CheckpointDescription:
    """The parts of a checkpoint file that are no tensors."""

    config: Mapping[str, Any]  # of the network: a family, and that family's fields
    preprocessing: Preprocessing
    tokenization: Tokenization
    tokenizer: str  # the text of a tokenizer.json
    fingerprint: str
    trained_on: tuple[str, ...]
    metrics: Mapping[str, float]
    prompts: Prompts | None
    calibration: Calibration | None


def read_description(content: Mapping[str, Any], path: str | Path) -> CheckpointDescription:
    """The description in what a file holds. Raises CheckpointError where it is not whole, or of another format."""
    found = content.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found!r}, not {FORMAT}: update clip-qdrant")
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise CheckpointError(f"{path} is not a whole checkpoint: {', '.join(missing)} missing")
    weights, tokenizer = content["weights"], content["tokenizer"]
    if not isinstance(weights, Mapping) or not isinstance(tokenizer, str):
        raise CheckpointError(f"{path} holds a {type(weights).__name__} in place of weights, or no text as tokenizer")
    try:
        check_values(*(value for name, value in content.items() if name not in _NO_VALUES))
        prompts, told = content.get("prompts"), content.get("calibration")
        return CheckpointDescription(
            config=dict(content["config"]),
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            tokenization=Tokenization(**content["tokenization"]),
            tokenizer=tokenizer,
            fingerprint=str(content["fingerprint"]),
            trained_on=tuple(map(str, content.get("trained_on", ()))),
            metrics={str(name): float(value) for name, value in dict(content.get("metrics", {})).items()},
            prompts=Prompts.from_dict(prompts),
            calibration=None if told is None else Calibration.from_dict(told),
        )
    except Exception as error:  # a file may hold anything
        raise CheckpointError(f"{path} describes a network that cannot be built: {first_line(error)}") from error
