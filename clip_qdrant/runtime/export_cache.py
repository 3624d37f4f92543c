"""Files with the graphs of encoders: a checkpoint that carries them, or an export in the user's cache folder.

    <cache>/exports/<fingerprint>.pt     checkpoint files with graphs, made of models that have none
    <cache>/notes/<sha256>.json          a source, the size and time of its files, and its fingerprint (file_notes.py)
    <cache>/exports.lock                 held while an export is made

A source is what `model_sources.py` makes of a model's name. A checkpoint file with graphs is
opened as it is; its note says that it has been checked against its fingerprint. Of all others the note says which
export is theirs. A name of the hub has two notes: under the commit that the hub's cache has of it, which counts, and
under the name as it is written, for when that cache is gone.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from pathlib import Path

from clip_qdrant.checkpoint_file.read import CheckpointFile
from clip_qdrant.errors import CheckpointError, ClipQdrantError, ExportError
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.runtime.file_notes import FileNotes, Note
from clip_qdrant.runtime.model_sources import ModelSource, find_source
from clip_qdrant.runtime.onnx import OnnxRuntime
from clip_qdrant.torch_extra import has_torch, require_torch
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ExportCache"]

logger = logging.getLogger(__name__)
# torch's exporter works on state of the whole process: one export at a time.
_exporting = threading.Lock()


class ExportCache:
    """The cache folder. Several processes may use it: a reader sees a whole file or none, and one exports at a time."""

    def __init__(self, folder: Path) -> None:
        self.exports = folder / "exports"
        self.notes = FileNotes(folder / "notes")
        self._lock = folder / "exports.lock"

    def open(self, name: str) -> CheckpointFile:
        """The file with the graphs of a model, made if there is none.

        Raises CheckpointError, ExportError, and MissingExtra where one has to be made and torch is not installed.
        """
        source = find_source(name)
        own = self._open_own(source.checkpoint) if source.checkpoint else None
        return own or _describe(self._find(source) or self._make(name, source), source)

    def rebuild(self, name: str) -> CheckpointFile:
        """An export in place of a file that ONNX Runtime could not open. Raises as `open`."""
        source = find_source(name)
        if source.checkpoint:
            own = _read(source.checkpoint)
            if own is not None:
                own.check()  # damaged: told as such
        return _describe(self._make(name, source), source)

    def _open_own(self, path: Path) -> CheckpointFile | None:
        """A checkpoint of ours with graphs; None for any other that torch may be able to read."""
        try:
            file = _read(path)
            if file is not None:
                self._check(file)
            return file
        except CheckpointError:
            if not has_torch():
                raise
            return None

    def _check(self, file: CheckpointFile) -> None:
        """Raises CheckpointError unless the file is what its fingerprint says, now or when it was last looked at."""
        name, files = str(file.path.resolve()), [file.path]
        note = self.notes.recall(name, files)
        if note is None or note.fingerprint != file.description.fingerprint:
            file.check()
            self.notes.remember(Note(name, file.description.fingerprint), files)

    def _find(self, source: ModelSource) -> CheckpointFile | None:
        note = self.notes.recall(source.name, source.files)
        if note is None and source.files:
            content = source.hash_content()
            same = next((each for each in self.notes if each.content == content), None)
            if same is not None:
                note = Note(source.name, same.fingerprint, content)
                self.notes.remember(note, source.files)
        return None if note is None else self._open_export(note.fingerprint)

    def _open_export(self, fingerprint: str) -> CheckpointFile | None:
        path = self.exports / f"{fingerprint}.pt"
        try:
            file = _read(path)
            if file is not None and file.description.fingerprint == fingerprint:
                self._check(file)
                self.notes.mark_used(str(path.resolve()))
                return file
            logger.info("no export yet: what lies at %s is one of another model", path)
        except CheckpointError as reason:
            logger.info("no export yet: %s", reason)
        return None

    def _make(self, name: str, source: ModelSource) -> CheckpointFile:
        require_torch(f"the first use of {mask_secrets(name)}, which is exported to ONNX once,")
        from filelock import FileLock  # 20 ms that a warm cache does not need

        with _exporting:
            try:
                self.exports.mkdir(parents=True, exist_ok=True)
                with FileLock(self._lock):
                    return self._make_alone(name, source)
            except OSError as error:
                raise_if_full(error, self.exports)
                raise ExportError(f"cannot write the ONNX export into {self.exports}: {error}") from error

    def _make_alone(self, name: str, source: ModelSource) -> CheckpointFile:
        there = self._find(source)
        if there is not None and _is_whole(there):  # another thread or process was quicker
            return there
        from clip_qdrant.model.loading import read_checkpoint
        from clip_qdrant.model.saving import export_checkpoint
        from clip_qdrant.runtime.onnx_export import make_graphs

        for left in self.exports.glob(".*"):  # by a process that was killed: nobody else writes here now
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        content = source.hash_content()
        scratch = self.exports / ".new.pt"
        fingerprint = export_checkpoint(read_checkpoint(name), scratch, make_graphs)
        final = self.exports / f"{fingerprint}.pt"
        scratch.replace(final)
        self.notes.remember(Note(str(final.resolve()), fingerprint), [final])
        after = find_source(name)  # by now the hub's cache has it
        for each in {after.name, after.asked}:
            self.notes.remember(Note(each, fingerprint, content), source.files)
        return CheckpointFile(final)


def _read(path: Path) -> CheckpointFile | None:
    """A checkpoint file of ours, None for one without graphs. Raises CheckpointError."""
    file = CheckpointFile(path)
    return None if file.graphs is None else file


def _describe(export: CheckpointFile, source: ModelSource) -> CheckpointFile:
    """An export with what its source says besides: files of one fingerprint may differ in prompts and calibration."""
    if source.checkpoint:
        with contextlib.suppress(CheckpointError):  # a file of others
            description = CheckpointFile(source.checkpoint).description
            if description.fingerprint == export.description.fingerprint:
                export.description = description
    return export


def _is_whole(file: CheckpointFile) -> bool:
    try:
        file.check()
        runtime = OnnxRuntime(file)
        runtime.open_sessions()
    except ClipQdrantError:
        return False
    return True
