"""Checkpoints as ONNX exports in the user's cache folder: made once, found again by the bytes they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import threading
from pathlib import Path

from clip_qdrant.content import BUNDLED, bundled_checkpoint
from clip_qdrant.errors import CheckpointError, ExportError, first_line
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.hub.snapshots import fetch_descriptions, find_commit
from clip_qdrant.model_names import parse_hub_name, split_pair, suggest_name
from clip_qdrant.runtime.onnx import OnnxRuntime
from clip_qdrant.runtime.sealed_json import read_sealed, write_sealed
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ExportCache"]

logger = logging.getLogger(__name__)
# torch's exporter works on state of the whole process: one export at a time.
_exporting = threading.Lock()


class ExportCache:
    """A folder of ONNX exports, named by fingerprint, and of pointers: the sha256 of a source's bytes -> fingerprint.

    An export is made in a temporary folder and renamed, so a reader sees a whole one or none, whoever else is writing.
    Processes that need one at the same time wait for the first to make it.
    """

    def __init__(self, folder: Path, threads: int | None) -> None:
        self._exports = folder / "exports"
        self._sources = folder / "sources"
        self._threads = threads

    def open(self, source: str) -> OnnxRuntime:
        """The export of a source, made if it is not there. Raises CheckpointError, ExportError."""
        key = _hash_source(source)
        return self._find(key) or self._make(source, key)

    def rebuild(self, source: str) -> OnnxRuntime:
        """The export of a source of which a file turned out to be damaged, made anew unless somebody just did."""
        return self._make(source, _hash_source(source))

    def _find(self, key: str) -> OnnxRuntime | None:
        try:
            pointer = read_sealed(self._sources / f"{key}.json")
            found = OnnxRuntime(self._exports / str(pointer.get("fingerprint")), threads=self._threads)
            if pointer.get("source") == key and found.meta["fingerprint"] == pointer.get("fingerprint"):
                return found
            logger.info("no export yet: what lies at %s is one of another model", found.folder)
        except ExportError as reason:
            logger.info("no export yet: %s", reason)
        return None

    def _make(self, source: str, key: str) -> OnnxRuntime:
        from filelock import FileLock  # 20 ms that a warm cache does not need

        with _exporting:
            try:
                self._exports.mkdir(parents=True, exist_ok=True)
                self._sources.mkdir(parents=True, exist_ok=True)
                with FileLock(self._exports.parent / "exports.lock"):
                    return self._make_alone(source, key)
            except OSError as error:
                raise_if_full(error, self._exports)
                raise ExportError(f"cannot write the ONNX export into {self._exports}: {error}") from error

    def _make_alone(self, source: str, key: str) -> OnnxRuntime:
        there = self._find(key)
        if there is not None and there.is_whole():  # another thread or process was quicker
            return there
        from clip_qdrant.model.loading import read_checkpoint
        from clip_qdrant.runtime.onnx_export import export_onnx

        checkpoint = read_checkpoint(source)
        with tempfile.TemporaryDirectory(dir=self._exports, prefix=".new-") as scratch:
            made = Path(scratch) / "export"
            final = self._exports / export_onnx(checkpoint, made)
            with contextlib.suppress(FileNotFoundError):  # broken or stale: out of the way, a folder is not replaced
                final.rename(Path(scratch) / "old")
            made.rename(final)
            pointer = Path(scratch) / "pointer"
            write_sealed(pointer, {"source": key, "fingerprint": final.name})
            pointer.replace(self._sources / f"{key}.json")
        return OnnxRuntime(final, threads=self._threads)


def _hash_source(source: str) -> str:
    """sha256 over the bytes of a checkpoint or over the files of a model folder; of a hub name, over its commit.

    Reading 50 MB takes 50 ms here; a modification time would be quicker and can lie.
    """
    digest = hashlib.sha256()
    if pair := split_pair(source):
        image = str(bundled_checkpoint()) if pair[0] == BUNDLED else pair[0]
        digest.update(f"{_hash_source(image)} {_hash_source(f'hf:{pair[1]}')}".encode())
        return digest.hexdigest()
    name = source.removeprefix("hf:")
    path = Path(name)
    if source.startswith("open_clip:"):
        architecture, _, rest = source.removeprefix("open_clip:").partition("/")
        digest.update(f"open_clip:{architecture}".encode())
        path = Path(rest)
        if not path.is_file():  # what lies behind a tag stays as it is
            digest.update(f"/{rest}".encode())
            return digest.hexdigest()
    elif not source.startswith("hf:") and not path.exists():  # told without importing torch
        raise CheckpointError(mask_secrets(f"there is no checkpoint at {source}{suggest_name(source)}"))
    try:
        if source.startswith("hf:") and not path.is_dir():
            commit = find_commit(name) or fetch_descriptions(name).folder.name
            digest.update(f"hf:{parse_hub_name(name).repository}@{commit}".encode())
            return digest.hexdigest()
        for file in sorted((*path.glob("*"), *path.glob("*/*"))) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(path).as_posix() if path.is_dir() else ''}\0".encode())
                with file.open("rb") as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(mask_secrets(f"cannot read the model {source}: {why}{suggest_name(source)}")) from error
    return digest.hexdigest()
