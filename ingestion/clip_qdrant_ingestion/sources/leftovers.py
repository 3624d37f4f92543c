"""Files and folders that programs and network drives leave beside pictures: thumbnails, bins, halves of Mac files.

They are no pictures of anybody, though many have the suffix of one. Hidden ones (".thumbnails") are left out anyway.
"""

from __future__ import annotations

__all__ = ["is_leftover", "lies_in_leftovers"]

_NAMES = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology
        *(".@__thumb", "@recycle", "@recently-snapshot"),  # QNAP
        *("$recycle.bin", "recycler", "system volume information", "thumbs.db", "desktop.ini"),  # Windows
        *("__macosx", ".appledouble", ".ds_store", ".spotlight-v100"),  # Mac
        *(".thumbnails", ".trashes", ".trash", "network trash folder", "temporary items", "lost+found"),
    }
)


def is_leftover(name: str) -> bool:
    """Whether a program has left a file or folder of this name: `._cat.jpg` of a Mac, `@eaDir` of a Synology."""
    return name.startswith("._") or name.lower() in _NAMES or name.lower().startswith(".trash-")


def lies_in_leftovers(path: str) -> bool:
    """The same of a path with "/" between its parts, or of a folder on the way."""
    return any(is_leftover(part) for part in path.split("/"))
