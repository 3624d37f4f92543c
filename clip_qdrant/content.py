"""Where the bundled content lies: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from clip_qdrant.errors import ConfigError

__all__ = ["BUNDLED", "bundled_checkpoint", "sample_gallery"]

BUNDLED = "bundled"  # what the model of this package is called where a checkpoint is named
_PACKAGE = Path(__file__).resolve().parent


def bundled_checkpoint() -> Path:
    """The checkpoint that "bundled" names. Raises ConfigError when this installation lacks it."""
    return _find("best.pt")


def sample_gallery() -> Path:
    """The folder of sample images and their metadata. Raises ConfigError when this installation lacks it."""
    return _find("gallery")


def _find(name: str) -> Path:
    for folder in (_PACKAGE / "content", _PACKAGE.parent / "content"):
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"there is no content/{name} in or beside {_PACKAGE}: install clip-qdrant again")
