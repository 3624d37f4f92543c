"""A name of the hub to a folder with the files of one commit, in the hub's own cache ($HF_HOME, ~/.cache/huggingface).

What lies there whole is used as it is, without asking the network: a branch stays at the commit it was downloaded at
until its files are downloaded anew (`hf download NAME`) or another revision is named.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_qdrant.errors import CheckpointError
from clip_qdrant.hub.faults import explain_fault, is_out_of_reach
from clip_qdrant.hub.files import (
    CONFIGS,
    OPEN_CLIP_WEIGHTS,
    WEIGHTS,
    choose_descriptions,
    choose_weights,
    is_open_clip,
    is_whole,
    list_files,
    refuse_image_model,
    refuse_no_config,
    refuse_no_weights,
    refuse_pointers,
)
from clip_qdrant.model_names import HubName, find_folder, parse_hub_name

__all__ = ["Snapshot", "fetch_descriptions", "fetch_weights", "find_commit"]

logger = logging.getLogger(__name__)
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """The files of a model, in a folder. `label` says what they are: hf:OWNER/NAME@COMMIT, or hf: and a folder's name.

    `name` is None for a folder of the user's; `missing` are the files of the weights that are yet to be downloaded.
    """

    folder: Path
    label: str
    name: HubName | None = None
    missing: tuple[str, ...] = ()


def fetch_descriptions(name: str) -> Snapshot:
    """All but the weights of a folder, or of OWNER/NAME[@REVISION] of the hub, downloaded if its cache has them not.

    Raises CheckpointError for what is not there, may not be read, or is no model; DiskFull.
    """
    if (folder := find_folder(name)) is not None:
        names = list_files(folder)
        refuse_no_config(names, f"hf:{name}")
        refuse_pointers(names, folder, f"hf:{name}")
        refuse_image_model(folder, f"hf:{name}")
        return Snapshot(folder, f"hf:{folder.resolve().name}")
    wanted = parse_hub_name(name)
    there = _find_cached(wanted)
    if there is not None and is_whole(there):
        return _label(wanted, there)
    try:
        with _explaining(wanted):
            return _download(wanted)
    except CheckpointError as error:
        if there is not None and error.__cause__ is not None and is_out_of_reach(error.__cause__):
            logger.info("the hub does not answer; taking what there is of %s", wanted)
            return _label(wanted, there)
        raise


def fetch_weights(snapshot: Snapshot) -> None:
    """Downloads the weights, if they are not there. Raises CheckpointError, DiskFull."""
    if snapshot.name is not None and snapshot.missing:
        with _explaining(snapshot.name):
            _fetch(snapshot.name, snapshot.missing, snapshot.folder.name)


def find_commit(name: str) -> str | None:
    """The commit that OWNER/NAME[@REVISION] is in the hub's cache; None if nothing of it is there. Quick."""
    wanted = parse_hub_name(name)
    there = _find_cached(wanted)
    if there is not None:
        return there.name
    return wanted.revision if wanted.revision and _COMMIT.fullmatch(wanted.revision) else None


def _find_cached(name: HubName) -> Path | None:
    """The folder of a revision in the hub's cache, laid out as its documentation says, with a configuration at least.

    https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    from huggingface_hub.constants import HF_HUB_CACHE  # 50 ms; what looks it up is 500

    storage = Path(HF_HUB_CACHE) / f"models--{name.repository.replace('/', '--')}"
    revision = name.revision or "main"
    with contextlib.suppress(OSError, ValueError):  # ValueError: bytes that are no text
        revision = (storage / "refs" / revision).read_text(encoding="utf-8").strip()
    folder = storage / "snapshots" / revision
    return folder if _COMMIT.fullmatch(revision) and any((folder / file).is_file() for file in CONFIGS) else None


def _download(name: HubName) -> Snapshot:
    """The descriptions of the commit that a revision now is. Raises CheckpointError, and the hub library's errors."""
    from huggingface_hub import HfApi, hf_hub_download

    revision = name.revision or "main"
    listed = HfApi().model_info(name.repository, revision=revision)
    names = [file.rfilename for file in listed.siblings or ()]
    refuse_no_config(names, name)
    configs = [file for file in CONFIGS if file in names]
    # By its name, so that the cache learns which commit a branch is. All else is of that commit.
    folder = Path(hf_hub_download(name.repository, configs[0], revision=revision)).parent
    commit = folder.name
    if commit != listed.sha:  # somebody committed meanwhile
        names = [file.rfilename for file in HfApi().model_info(name.repository, revision=commit).siblings or ()]
    _fetch(name, configs, commit)
    refuse_image_model(folder, name)
    _fetch(name, choose_descriptions(names, folder), commit)
    weights = tuple(choose_weights(names, folder))
    if not weights:
        refuse_no_weights(names, name, OPEN_CLIP_WEIGHTS if is_open_clip(folder) else WEIGHTS)
    return _label(name, folder, weights)


def _fetch(name: HubName, files: Sequence[str], commit: str) -> None:
    from huggingface_hub import hf_hub_download

    for file in files:
        hf_hub_download(name.repository, file, revision=commit)


@contextlib.contextmanager
def _explaining(name: HubName) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # the hub's library raises its own errors, those of HTTP, and those of the disk
        raise explain_fault(error, name, lambda: _list_revisions(name)) from error


def _list_revisions(name: HubName) -> list[str]:
    from huggingface_hub import HfApi

    refs = HfApi().list_repo_refs(name.repository)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _label(name: HubName, folder: Path, missing: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(folder, f"hf:{name.repository}@{folder.name}", name, missing)
