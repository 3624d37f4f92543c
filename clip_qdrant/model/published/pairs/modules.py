"""modules.json: the modules that sentence-transformers makes a model of, read as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.json_files import read_values

__all__ = ["Module", "has_modules", "read_modules"]

_FILE = "modules.json"
_PACKAGE = "sentence_transformers."


@dataclass(frozen=True)
class Module:
    """One module: what its class is called without its package, and the folder with its files."""

    kind: str
    folder: Path


def has_modules(folder: Path) -> bool:
    """Whether a folder is that of a model of sentence-transformers."""
    return (folder / _FILE).is_file()


def read_modules(folder: Path, label: str) -> list[Module]:
    """The modules in their order. Raises CheckpointError for what is no list of them, or one with code of its own."""
    values = read_values(folder / _FILE, label, kind=list)
    modules = []
    for value in values:
        kind, path = (str(value.get(name, "")) for name in ("type", "path")) if isinstance(value, Mapping) else ("", "")
        if not kind.startswith(_PACKAGE):
            raise CheckpointError(f"{label} has the module {kind!r}: code of its own, which is not run here")
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise CheckpointError(f"{label} has a module at {path!r}, outside of its folder")
        modules.append(Module(kind.rpartition(".")[2], folder / path))
    if not modules:
        raise CheckpointError(f"{label} has no modules in its {_FILE}")
    return modules
