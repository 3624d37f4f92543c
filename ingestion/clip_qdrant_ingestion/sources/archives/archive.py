"""Images in tar archives, as WebDataset writes them: local, in a bucket or on the web.

The uri of an image is that of its archive, "#" and its percent-encoded path in there. Its etag has the version of the
archive and the place in it, so no image of an archive that did not change is decoded again. Of a local archive that is
not compressed only the headers are read, and later the images at their places; any other archive is read from beginning
to end, and its images come with their content.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from clip_qdrant.errors import DamagedArchive, ImageTooLarge, SourceError, first_line
from clip_qdrant.images.load import Limits
from clip_qdrant.tables.tar import TarStream
from clip_qdrant.url_secrets import remove_secrets
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.archives.apart import Apart
from clip_qdrant_ingestion.sources.archives.locations import Archives
from clip_qdrant_ingestion.sources.archives.samples import CONTENT_A_PAGE, fragment_of, read_samples
from clip_qdrant_ingestion.sources.buckets.filesystems import to_source_error
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Page, Problem, SourceObject
from clip_qdrant_ingestion.sources.schemes import is_web
from clip_qdrant_ingestion.sources.sizes import check_size

__all__ = ["ShardSource"]

logger = logging.getLogger(__name__)


class ShardSource:
    """The images in the archives that `location` names: a path or URL of one, of a folder of them, or a pattern.

    What programs leave beside pictures (`sources.leftovers`) is passed over unless `hidden` is set.
    In a pattern `{000..010}` counts, `{a,b}` lists, and `*` stands for any text (not on the web). `name` is by default
    the location without user and query. An archive that is damaged gives the images that can be read, and a Problem.
    Transient failures of reading an archive are tried again for `patience` seconds.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        hidden: bool = False,
        name: str | None = None,
        fetcher: Fetcher | None = None,
        storage_options: Mapping[str, Any] | None = None,
        patience: float = 60.0,
    ) -> None:
        place = os.fspath(location)
        self._archives = Archives(
            place, fetcher=fetcher or Fetcher(), storage_options=storage_options, patience=patience
        )
        self.name = name or self._archives.name
        self._hidden = hidden

    def __repr__(self) -> str:
        return f"ShardSource({self._archives.shown!r})"

    @property
    def reads_at_once(self) -> int:
        return 4 if self._archives.is_local else 16

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:  # noqa: ARG002  it has no folders
        seen, pending = TextSet(), _Pending()
        passed_over: Counter[str] = Counter()
        listed, failure = False, None
        for uri in self._archives.uris():
            for found, size in self._objects(uri, passed_over):
                if isinstance(found, SourceError):
                    failure = failure or found
                    found = Problem(remove_secrets(uri), "unreadable", str(found), hides_objects=True)
                listed = listed or isinstance(found, SourceObject)
                if pending.is_full_for(size):
                    yield pending.page(seen)
                    pending = _Pending()
                pending.add(found, size)
        if failure is not None and not listed:
            raise failure
        if pending.objects or pending.problems or passed_over:
            yield replace(pending.page(seen), passed_over=passed_over)

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        shown = item.uri
        check_size(shown, item.size or 0, limits)
        if item.content is not None:
            return item.content
        uri, _, path = (item.address or item.uri).rpartition("#")
        version, offset, size = _place(item.etag)
        if is_web(uri) and (item.size or 0) > CONTENT_A_PAGE:  # for each the archive would be fetched again
            detail = f"the limit in an archive on the web is {CONTENT_A_PAGE}"
            raise ImageTooLarge(f"{shown} has {item.size} bytes; {detail}")
        if version is None or is_web(uri):
            return self._search(uri, path, limits)
        if self._archives.version(uri) != version:
            raise SourceError(f"cannot read {shown}: its archive changed since it was listed; run again")
        return self._archives.read_range(uri, offset, size)

    def _search(self, uri: str, path: str, limits: Limits) -> bytes:
        """The image of a path in an archive, looked for from its beginning."""
        shown = f"{remove_secrets(uri)}#{path}"
        try:
            with self._archives.open(uri) as file:
                stream = TarStream(file, seekable=self._archives.is_local)
                for member in stream:
                    if member.instead is None and fragment_of(member) == path:
                        check_size(shown, member.size, limits)
                        return stream.read(member)
        except DamagedArchive as error:
            raise SourceError(f"cannot read {shown}: {error}") from error
        except OSError as error:
            raise to_source_error(error, f"read {shown}") from error
        raise SourceError(f"cannot read {shown}: it is not in the archive")

    def _objects(
        self, uri: str, passed_over: Counter[str]
    ) -> Iterator[tuple[SourceObject | Problem | SourceError, int]]:
        """What one archive holds, each with the bytes it takes. What ends it early comes last."""
        shown = remove_secrets(uri)
        apart, failure = None, None
        try:
            version = self._archives.version(uri)
            with self._archives.open(uri) as file:
                stream = TarStream(file, seekable=self._archives.is_local)
                packed = stream.compression is not None
                streamed = packed or not self._archives.is_local
                with contextlib.closing(Apart(None if streamed else partial(self._archives.open, uri))) as apart:
                    for sample in read_samples(stream, streamed=streamed, apart=apart, hidden=self._hidden):
                        passed_over.update(sample.passed_over)
                        yield from sample.objects(uri, version, packed=packed)
        except DamagedArchive as error:
            failure = SourceError(f"{shown} cannot be read to its end: {error}; make or copy it again")
        except (SourceError, ImageTooLarge, OSError) as error:  # too large: an archive on the web
            failure = to_source_error(error, f"read {shown}")
        except Exception as error:  # whatever is wrong with one archive costs that one alone
            logger.debug("reading %s", shown, exc_info=True)
            failure = SourceError(f"cannot read {shown}: {first_line(error)}")
        if apart is not None and apart.problem is not None:
            yield Problem(shown, "bad metadata", f"{shown}: {apart.problem}"), 0
        if failure is not None:
            yield failure, 0


@dataclass(slots=True)
class _Pending:
    """What the next page gets."""

    objects: list[SourceObject] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    size: int = 0  # bytes

    def is_full_for(self, size: int) -> bool:
        return max(len(self.objects), len(self.problems)) >= OBJECTS_A_PAGE or (
            self.size > 0 and self.size + size > CONTENT_A_PAGE
        )

    def add(self, found: SourceObject | Problem, size: int) -> None:
        self.size += size
        if isinstance(found, Problem):
            self.problems.append(found)
        else:
            self.objects.append(found)

    def page(self, seen: TextSet) -> Page:
        objects = []
        for item, new in zip(self.objects, seen.add_all([item.uri for item in self.objects]), strict=True):
            if new:
                objects.append(item)
            else:
                detail = f"{item.uri} is in its archive twice; the first is used"
                self.problems.append(Problem(item.uri, "bad metadata", detail))
        return Page(objects, self.problems)


def _place(etag: str | None) -> tuple[str | None, int, int]:
    """Version of the archive, offset and size, as `objects` wrote them; nothing for an archive that is packed."""
    version, offset, size = (etag or "").rsplit(":", 2) if (etag or "").count(":") >= 2 else ("", "0", "0")
    return (version, int(offset), int(size)) if version and offset.isdigit() and size.isdigit() else (None, 0, 0)
