"""Where this package keeps files of its own in the home of the user."""

from __future__ import annotations

from pathlib import Path

import platformdirs

__all__ = ["default_cache_dir"]


def default_cache_dir() -> Path:
    """The user's cache folder for this package: in $XDG_CACHE_HOME, ~/Library/Caches or %LOCALAPPDATA%, by platform."""
    return platformdirs.user_cache_path("clip-qdrant", appauthor=False, opinion=False)
