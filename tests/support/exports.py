"""Exports to ONNX, which take seconds: each is made once a run, in the cache that all tests and workers share."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny import tiny_checkpoint

from clip_qdrant import ClipEmbedder
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.runtime.file_notes import FileNotes, Note
from clip_qdrant.runtime.model_sources import find_source
from clip_qdrant.user_folders import default_cache_dir

__all__ = ["exported_checkpoint", "make_export", "put_export"]


def exported_checkpoint(seed: int = 0) -> Checkpoint:
    """The tiny network that tests of exports have in common: with heads of both kinds."""
    return tiny_checkpoint(seed, image_head="concept", text_head="residual", concepts=9)


def make_export(model: Path) -> Path:
    """The checkpoint file with graphs that the shared cache has of a model, made if there is none."""
    fingerprint = ClipEmbedder.load(model, runtime="onnx").fingerprint
    return default_cache_dir() / "exports" / f"{fingerprint}.pt"


def put_export(export: Path, model: Path, cache: Path) -> Path:
    """A copy of a model's export in another cache folder, where it is found as if it had been made there."""
    (cache / "exports").mkdir(parents=True)
    copy = Path(shutil.copy(export, cache / "exports"))
    notes = FileNotes(cache / "notes")
    content = find_source(str(model)).hash_content()
    notes.remember(Note(str(model.resolve()), export.stem, content), [model])
    notes.remember(Note(str(copy.resolve()), export.stem), [copy])
    return copy
