"""Places of images: which there are, and whether an image that is stored is still where its uri says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

from clip_qdrant.uris import path_of
from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["KnowsPlaces", "are_gone", "has_many_places", "is_gone", "is_local", "place_of"]

_OF_THIS_MACHINE = 3  # parts of a path that must be there, such as /home/anna: another machine has other ones


@runtime_checkable
class KnowsPlaces(Protocol):
    """A source that can look for objects which it has not listed."""

    def is_gone(self, uri: str) -> bool | None:
        """Whether nothing is at the place of a uri any more; None where this source cannot tell."""


def has_many_places(source: Source) -> bool:
    """Whether the objects of a source lie at many places, which come and go for themselves: hosts, and buckets."""
    return bool(getattr(source, "many_places", False))


def place_of(uri: str) -> str:
    """The host of an address of the web, and scheme and bucket of what is in one."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2].lower()}"


def is_local(uri: str) -> bool:
    """Whether a uri names a local file, or something in one."""
    return uri.startswith("file:")


def is_gone(uri: str, source: Source) -> bool | None:
    """Whether nothing is at the place of a uri any more; None where it cannot be told.

    Of a local file this machine knows if it has a folder above it, which is more than a name that all machines have
    ("/home"), or is above the source too: several machines may write what lies on their disks to one collection.
    What is in an archive is there as long as the archive is.
    """
    if not is_local(uri):
        return source.is_gone(uri) if isinstance(source, KnowsPlaces) else None
    path = path_of(uri)
    if path is None:
        return None
    try:
        os.stat(path)  # noqa: PTH116  a dangling link is gone: it is followed
    except (FileNotFoundError, NotADirectoryError):
        root = path_of(source.name)
        return True if _is_of_this_machine(path, root) else None
    except (OSError, ValueError):  # no permission, a drive that fails, a link to itself
        return None
    return False


def are_gone(uris: Sequence[str], source: Source) -> Iterator[tuple[str, bool | None]]:
    """The same of many, in order; what takes requests is asked for in as many threads as the source reads in."""
    local = [uri for uri in uris if is_local(uri)]
    yield from ((uri, is_gone(uri, source)) for uri in local)
    others = [uri for uri in uris if not is_local(uri)]
    if others and isinstance(source, KnowsPlaces):
        with ThreadPoolExecutor(max(1, source.reads_at_once), "places") as pool:
            yield from zip(others, pool.map(source.is_gone, others), strict=True)


def _is_of_this_machine(path: Path, root: Path | None) -> bool:
    there = next((folder for folder in path.parents if folder.is_dir()), None)
    if there is None or there == Path(there.anchor):
        return False
    return len(there.parts) >= _OF_THIS_MACHINE or (root is not None and there in (root, *root.parents))
