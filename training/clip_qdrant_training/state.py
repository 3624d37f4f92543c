"""The state of a run on disk: all that a run needs to go on after kill -9 to the weights it would have reached."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clip_qdrant.errors import CheckpointError, TrainingError, first_line
from clip_qdrant.model.checkpoint import read_content, write_atomically
from clip_qdrant_training.data import Pair

__all__ = ["data_fingerprint", "generators", "read_state", "set_generators", "write_state"]

FORMAT = 1


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write it atomically: a kill at any moment leaves the old state or the new one. Raises TrainingError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, {"format": FORMAT, **state})
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in a RuntimeError
        full = getattr(error, "errno", None) == errno.ENOSPC or "PytorchStreamWriter" in str(error)
        hint = "; free some space and go on with --resume, the state before it is still there" if full else ""
        raise TrainingError(f"cannot write the state of the run to {path}: {first_line(error)}{hint}") from error


def read_state(path: Path, config: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The state in `path`, if it is of a run with this config on this data; TrainingError says what differs.

    Where a run computes may differ (device, threads, cache, save_every), what it computes may not.
    """
    try:
        state = read_content(path)
    except CheckpointError as error:
        raise TrainingError(f"cannot resume: {error}") from error
    if state.get("format") != FORMAT or "config" not in state:
        raise TrainingError(f"cannot resume: {path} is not the state of a run that this version can go on with")
    free = ("device", "threads", "cache", "cache_gb", "save_every")
    before = state["config"]
    for key in sorted({*before, *config} - set(free)):
        if before.get(key) != config.get(key):
            raise TrainingError(
                f"cannot resume: the run in {path.parent} began with {key}={before.get(key)!r}, not "
                f"{config.get(key)!r}; give the same, or another run folder to begin anew"
            )
    if state["data"] != data:
        raise TrainingError(f"cannot resume: the run in {path.parent} began with other pairs than these")
    return state


def data_fingerprint(pairs: Sequence[Pair]) -> str:
    """What tells pairs from other pairs: their number, and their captions in order."""
    import hashlib

    digest = hashlib.sha256(str(len(pairs)).encode())
    for pair in pairs:
        digest.update("\0".join(pair.captions).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def generators() -> dict[str, Any]:
    """The random generators that a step draws from, as tensors."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: Mapping[str, Any]) -> None:
    """Put them back as they were."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
