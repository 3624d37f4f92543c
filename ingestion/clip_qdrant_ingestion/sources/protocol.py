"""What a source is: the `Source` protocol, and the objects, descriptions and problems that it gives.

A source lists its objects page by page, in the same order every time, and reads them one at a time, in as many threads
as `reads_at_once` says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clip_qdrant.errors import MetadataError
from clip_qdrant.images.load import Limits

__all__ = ["OBJECTS_A_PAGE", "Description", "Page", "Problem", "Source", "SourceObject"]

OBJECTS_A_PAGE = 1000  # at most; also what one page of an S3 listing holds


@dataclass(frozen=True, slots=True)
class Description:
    """What is said about one image outside of it. `partial`: a file that may describe it could not be read.

    `texts` are values of which only the text is known, such as a part of a path or a cell of a table; they get the type
    of their field later (`sources.text_values`). A field is in `metadata` or in `texts`, never in both. `written` has
    the texts of those values in `metadata` that were typed by their column; a field of another type reads them again.
    `taken_at` and `location` among the metadata are those of the image. `left_out` are fields that cannot be stored.
    """

    caption: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict, compare=False)  # says nothing more
    partial: bool = False
    left_out: tuple[MetadataError, ...] = field(default=(), compare=False)

    def over(self, other: Description) -> Description:
        """This description where it says something, the other elsewhere."""
        below = {name: value for name, value in other.metadata.items() if name not in self.texts}
        texts = {name: text for name, text in other.texts.items() if name not in self.metadata}
        written = {name: text for name, text in other.written.items() if name in below and name not in self.metadata}
        return Description(
            self.caption or other.caption,
            {**below, **self.metadata},
            {**texts, **self.texts},
            {**written, **self.written},
            self.partial or other.partial,
            (*self.left_out, *other.left_out),
        )


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object as a listing shows it. `name` is its path within the source, with "/" between the parts.

    `size` in bytes, `mtime` in seconds since 1970 and `etag` tell whether it changed; None where the source cannot say.
    `address` is where it is read, if that is not its uri: a URL with a password or a signature, which is neither stored
    nor shown (`clip_qdrant.url_secrets.remove_secrets`).
    `said` is what the listing and the files beside the object say about it. `content` has its bytes if the listing read
    them anyway (a streamed archive); None means that `Source.read` gets them.
    """

    uri: str
    name: str
    size: int | None = None
    mtime: float | None = None
    etag: str | None = None
    said: Description = field(default_factory=Description)
    content: bytes | None = field(default=None, repr=False, compare=False)
    address: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a listing that cannot be used: a folder, a sidecar, a row. `reason` is a short, stable word.

    `hides_objects`: objects that are there may be missing from the listing, so none may be deleted for not being in it.
    """

    uri: str
    reason: str
    detail: str
    hides_objects: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a listing: at most OBJECTS_A_PAGE objects, and what was wrong on the way to them.

    `elsewhere` counts the objects that are left to other workers (`sources.share`), `passed_over` the files that are no
    images to this source, by their kind: a suffix, "no suffix", "link".
    """

    objects: Sequence[SourceObject] = ()
    problems: Sequence[Problem] = ()
    elsewhere: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """Where images come from. `read` and `look` are called from several threads at once."""

    @property
    def name(self) -> str:
        """Stored with every image as `source.name`."""

    @property
    def reads_at_once(self) -> int:
        """How many reads at once hide the time that one of them waits."""

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        """All objects, in the same order every time; no uri comes twice.

        With `folders`, names of folders within the source ("" is the root), only the objects directly in these; a
        source without folders lists everything all the same. Raises SourceError if nothing can be listed; a piece
        that cannot be listed comes as a Problem that hides objects.
        """

    def look(self, item: SourceObject) -> SourceObject:
        """The object with what only a request for it tells: its version, and the metadata in its headers.

        A source whose listing tells all of it gives the same object, without a request. Raises SourceError.
        """

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        """The content of an object. Raises SourceError, or ImageTooLarge above the limit of bytes."""
