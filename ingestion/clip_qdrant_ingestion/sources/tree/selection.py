"""Which files of a tree are images, which are sidecars, and which are neither."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES

__all__ = ["SIDECAR_SUFFIXES", "Glob", "Selection"]

SIDECAR_SUFFIXES = frozenset({".json", ".txt", ".jsonl", ".csv", ".tsv", ".xmp"})


class Selection:
    """What a tree is asked for.

    A file is an image if its suffix says so (IMAGE_SUFFIXES). `include` and `exclude` are glob patterns, in which upper
    and lower case are one. A pattern without "/" is matched with the file's name, one with "/" with the path within
    the source, where "**" stands for any number of folders. With `include`, only what matches one of its patterns is
    taken: a pattern that ends in a suffix ("*.dat") takes files of that suffix as images too, any other pattern takes
    files without a suffix. Sidecars are never images. An excluded folder is not entered. Hidden files and folders
    (".name") are left out unless `hidden` is set. Raises ConfigError for a pattern that cannot be used.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = (), *, hidden: bool = False) -> None:
        self._include = [Glob(pattern) for pattern in include]
        self._exclude = [Glob(pattern) for pattern in exclude]
        self._hidden = hidden

    def admits(self, prefix: str, name: str) -> bool:
        """Whether a file or folder is neither hidden nor excluded. `prefix` is its folder, "" or with a last "/"."""
        if name.startswith(".") and not self._hidden:
            return False
        return not any(glob.matches(prefix + name, name) for glob in self._exclude)

    def is_image(self, prefix: str, name: str) -> bool:
        """Whether a file that was admitted is taken as an image."""
        suffix = _suffix(name)
        if suffix in SIDECAR_SUFFIXES:
            return False
        usual = suffix in IMAGE_SUFFIXES
        if not self._include:
            return usual
        return any(
            (usual or glob.names_suffix or not suffix) and glob.matches(prefix + name, name) for glob in self._include
        )

    def is_sidecar(self, name: str) -> bool:
        """Whether a file that was admitted may describe images."""
        return _suffix(name) in SIDECAR_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  a Path for each file takes 4 times as long


class Glob:
    """One pattern: `*` and `?` stop at "/", `**` does not, `[...]` is a set of characters."""

    _TOKENS = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)

    def __init__(self, pattern: str) -> None:
        path = pattern.strip("/") if "/" in pattern.strip("/") else pattern.rstrip("/")
        path = path.removeprefix("/")
        self._whole_path = "/" in path
        self.names_suffix = re.search(r"\.[^./*?\[\]]+\Z", path) is not None
        parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        regex = ""
        for token in self._TOKENS.findall(path):
            if token in parts:
                regex += parts[token]
            else:
                regex += _character_set(token[1:-1]) if len(token) > 1 else re.escape(token)
        try:
            self._regex = re.compile(regex, re.IGNORECASE | re.DOTALL)
        except re.error as error:
            raise ConfigError(f"the pattern {pattern!r} cannot be used: {error.msg}") from error

    def matches(self, name: str, file_name: str) -> bool:
        return self._regex.fullmatch(name if self._whole_path else file_name) is not None


def _character_set(body: str) -> str:
    """The regular expression for what stands between the brackets of a glob: characters, ranges, "!" in front."""
    characters = body.removeprefix("!")
    regex, at = "", 0
    while at < len(characters):
        span = 3 if characters[at + 1 : at + 2] == "-" and at + 2 < len(characters) else 1
        regex += "-".join(re.escape(one) for one in characters[at : at + span : 2])
        at += span
    return f"[^/{regex}]" if body.startswith("!") else f"(?!/)[{regex}]"
