"""Which files of a tree are images, which are sidecars, and which are neither."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant.tables.suffixes import ARCHIVE_SUFFIXES
from clip_qdrant_ingestion.sources.leftovers import is_leftover

__all__ = ["NO_SUFFIX", "SIDECAR_SUFFIXES", "Glob", "Selection"]

NO_SUFFIX = "no suffix"  # as a kind of file

SIDECAR_SUFFIXES = frozenset({".json", ".txt", ".jsonl", ".csv", ".tsv", ".xmp"})


class Selection:
    """What a tree is asked for.

    A file is an image if its suffix says so (IMAGE_SUFFIXES). `include` and `exclude` are glob patterns, in which upper
    and lower case are one. A pattern without "/" is matched with the file's name, one with "/" with the path within
    the source, where "**" stands for any number of folders. With `include`, only what matches one of its patterns is
    taken: a pattern that ends in a suffix ("*.dat") takes files of that suffix as images too, any other pattern takes
    files without a suffix. Sidecars are never images. An excluded folder is not entered. Hidden files and folders
    (".name"), and what programs leave beside pictures (`sources.leftovers`), are left out unless `hidden` is set.
    Raises ConfigError for a pattern that cannot be used.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = (), *, hidden: bool = False) -> None:
        self._include = [Glob(pattern) for pattern in include]
        self._exclude = [Glob(pattern) for pattern in exclude]
        self._hidden = hidden

    def admits(self, prefix: str, name: str) -> bool:
        """Whether a file or folder is neither left out nor excluded. `prefix` is its folder, "" or with a last "/"."""
        if not self._hidden and (name.startswith(".") or is_leftover(name)):
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
            (usual or glob.suffix is not None or not suffix) and glob.matches(prefix + name, name)
            for glob in self._include
        )

    @property
    def suffixes(self) -> frozenset[str]:
        """The suffixes that images and sidecars may have, in lower case; "" if there may be none."""
        named = {suffix for glob in self._include if (suffix := glob.suffix) is not None}
        bare = {""} if any(glob.suffix is None for glob in self._include) else set()
        return IMAGE_SUFFIXES | SIDECAR_SUFFIXES | named | bare

    def kind_of_other(self, name: str) -> str | None:
        """The kind of a file that was admitted and is neither image nor sidecar: its suffix. None for the others."""
        suffix = _suffix(name)
        if suffix in IMAGE_SUFFIXES or suffix in SIDECAR_SUFFIXES:
            return None
        return next((known for known in ARCHIVE_SUFFIXES if name.lower().endswith(known)), suffix) or NO_SUFFIX

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
        found = re.search(r"\.[^./*?\[\]]+\Z", path)
        self.suffix = found[0].lower() if found is not None else None  # that it names
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
