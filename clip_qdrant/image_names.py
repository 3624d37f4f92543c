"""What to call an image where people read it: its name, its folder, and whether it is in an archive."""

from __future__ import annotations

import re
from urllib.parse import unquote

from clip_qdrant.tables.suffixes import is_archive
from clip_qdrant.uris import path_of

__all__ = ["member_of", "split_name"]


def member_of(uri: str) -> str | None:
    """The path within its tar archive, for the uri of an image in one; None for any other."""
    archive, mark, member = uri.partition("#")
    return unquote(member) if mark and is_archive(archive.partition("?")[0]) else None


def split_name(uri: str) -> tuple[str, str]:
    """Where an image lies and what it is called, for people: folder and name of its path, whatever it lies in.

    The folder of an image in an archive begins with that of the archive; a uri without a path is all name.
    """
    scheme, found, place = uri.partition("://")
    try:
        member, path = member_of(uri), path_of(uri)
        archive = path_of(uri.partition("#")[0])
    except ValueError:  # a uri that is none
        return "", uri
    if member is not None:
        folder, _, name = member.rpartition("/")
        within = str(archive or unquote(uri.partition("#")[0]))
        return f"{within}#{folder}" if folder else within, name
    if path is not None:
        return str(path.parent), path.name
    if scheme.lower() in ("http", "https"):
        place = re.split("[?#]", place, maxsplit=1)[0]
    folder, slash, name = place.rpartition("/")
    if not (found and slash and name):
        return "", uri
    return f"{scheme}://{unquote(folder)}", unquote(name)
