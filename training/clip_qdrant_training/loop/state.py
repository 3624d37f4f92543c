"""The state of a run on disk. From it a run that was killed goes on to the weights it would have reached."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError, TrainingError, first_line
from clip_qdrant.model.weights import read_content, write_atomically
from clip_qdrant_training.data.pairs import Pair, image_name
from clip_qdrant_training.job import TrainingJob

__all__ = ["BEST", "STATE", "check_writable", "digest_origin", "read_state", "remove_unfinished", "write_state"]

STATE, BEST = "last.state", "best.pt"  # in the folder of a run

_FORMAT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FREE = ("device", "threads", "cache", "cache_gb", "save_every")
_PARTS = ("config", "origin", "done", "total", "model", "objective", "optimizer", "averaged", "scores", "best")


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write it atomically: a kill at any moment leaves the old state or the new one. Raises TrainingError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, {"format": _FORMAT, **state})
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        kept = "the state before it is still there" if path.exists() else "there is none before it"
        full = isinstance(error, OSError) and error.errno in _FULL
        hint = f"; {kept}: free some space and go on with --resume" if full else ""
        raise TrainingError(f"cannot write the state of the run to {path}: {why}{hint}") from error


def read_state(path: Path, config: Mapping[str, Any], origin: Mapping[str, str]) -> dict[str, Any]:
    """The state in `path`, if it is of a run of this config and `origin`; TrainingError says what differs.

    Where a run computes may differ (device, threads, cache, save_every), what it computes may not.
    """
    _check_sums(path)
    try:
        state = read_content(path)
    except CheckpointError as error:
        raise TrainingError(f"cannot resume: {error}") from error
    if state.get("format") != _FORMAT or not all(part in state for part in _PARTS):
        raise TrainingError(f"cannot resume: {path} is not the state of a run that this version can go on with")
    way_out = "give the same, or another run folder to begin anew"
    before = state["config"]
    for key in sorted({*before, *config} - set(_FREE)):
        if before.get(key) != config.get(key):
            raise TrainingError(
                f"cannot resume: the run in {path.parent} began with {key}={before.get(key)!r}, not "
                f"{config.get(key)!r}; {way_out}"
            )
    for name, value in origin.items():
        if state["origin"].get(name) != value:
            known = f": {state['origin'].get(name)}, not {value}" if name == "batch size" else ""
            raise TrainingError(f"cannot resume: the run in {path.parent} began with another {name}{known}; {way_out}")
    return state


def digest_origin(job: TrainingJob, batch_size: int) -> dict[str, str]:
    """Digests of what a run is made of besides its config: equal for equal pairs, start, teacher and batch size.

    Images are known by the names of their files, for a data set may move. Of the start the network counts and its
    weights do not: the state has weights of its own, and a run may write its best over the file it started from.
    """
    start, taught_by = job.start, (job.teacher or job.start) if job.config.distill else None
    network = [start.config, start.preprocessing.to_dict(), start.tokenization.to_dict(), start.tokenizer]
    parts = [(len(part.pairs), part.weight) for part in job.mixture.parts]
    return {
        "set of pairs": _digest(json.dumps(parts), *_describe(job.mixture.pairs)),
        "set of validation pairs": _digest(*_describe(job.validation or ())),
        "network to start from": _digest(json.dumps(network, sort_keys=True)),
        "teacher": taught_by.fingerprint() if taught_by else "",
        "batch size": str(batch_size),  # differs from the config's for few pairs, or by the number of processes
    }


def check_writable(output: Path) -> None:
    """Raises TrainingError now, not after an hour's epoch, for a checkpoint that could not be written."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise TrainingError(f"cannot write a checkpoint to {output}: {error.strerror or error}") from error
    if output.is_dir():
        raise TrainingError(f"cannot write a checkpoint to {output}: it is a folder; name a file in it")


def remove_unfinished(path: Path) -> None:
    """Remove what killed writes of this file left beside it. No other process may be writing it."""
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}")  # as write_atomically names them
    for each in path.parent.glob(".*"):
        if unfinished.fullmatch(each.name):
            each.unlink(missing_ok=True)


def _check_sums(path: Path) -> None:
    """Raises TrainingError for a file cut short or with a bit flipped, which torch.load reads without complaint."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        damaged = first_line(error)
    except OSError as error:
        raise TrainingError(f"cannot resume: cannot read {path}: {error.strerror or error}") from error
    if damaged:
        raise TrainingError(
            f"cannot resume: {path} is damaged ({damaged}); begin anew in another run folder, and start from the "
            "best.pt beside it if there is one"
        )


def _describe(pairs: Sequence[Pair]) -> list[str]:
    return [
        "\0".join([re.split(r"[/\\]", image_name(pair.image, number))[-1], *pair.captions])
        for number, pair in enumerate(pairs)
    ]


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
