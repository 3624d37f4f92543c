"""Images that a web server lists: pages of links, as Apache and nginx make them for folders.

Only links to the same server, below the page itself, are followed: those that end in "/" are folders, those with the
suffix of an image are images. Links with a query (which sort the page, say) are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

from clip_qdrant.errors import ConfigError, ImageTooLarge, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant.web.retries import retry_request
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Page, Problem, SourceObject
from clip_qdrant_ingestion.sources.tree.selection import Selection

__all__ = ["HttpIndexSource"]

_LARGEST_PAGE = Limits(max_bytes=64 << 20)
_MOST_FOLDERS = 100_000
_DEEPEST = 64  # folders below one another; a server that makes up links goes on for ever


class HttpIndexSource:
    """The images below an index page; which ones, `include`, `exclude` and `hidden` say as in `Selection`.

    A user in the address is sent to the server and is in no uri. Transient failures of index pages are tried again for
    `patience` seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        name: str | None = None,
        fetcher: Fetcher | None = None,
        patience: float = 60.0,
    ) -> None:
        try:
            parts = urlsplit(url)
            is_page_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:  # a port that is no number, and may be the beginning of a password with a "/" in it
            is_page_address = False
        if not is_page_address:
            raise ConfigError(f"{mask_secrets(url)!r} is no address of a web page; write https://host/folder/")
        user, _, host = parts.netloc.rpartition("@")
        above, _, page = (parts.path or "/").rpartition("/")
        is_page = bool(parts.query) or page.lower().endswith((".html", ".htm"))
        folder = f"{above}/" if is_page or not page else f"{parts.path}/"
        self._root = urlunsplit((parts.scheme, host, _quote_path(_unquote_path(folder)), "", ""))
        self._first = urlunsplit((parts.scheme, host, parts.path, parts.query, "")) if is_page else self._root
        self._user = f"{user}@" if user else ""
        self.name = name or self._root
        self._selection = Selection(include, exclude, hidden=hidden)
        self._fetcher = fetcher or Fetcher()
        self._patience = patience

    def __repr__(self) -> str:
        return f"HttpIndexSource({self._root!r})"

    @property
    def reads_at_once(self) -> int:
        return 32

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        objects: list[SourceObject] = []
        problems: list[Problem] = []
        entered, number = TextSet(), 0
        passed_over: Counter[str] = Counter()
        waiting = [""] if folders is None else sorted((f"{name}/" if name else "" for name in folders), reverse=True)
        while waiting:
            folder = waiting.pop()
            if not entered.add_all([folder])[0]:
                continue
            number += 1
            if number > _MOST_FOLDERS:
                raise SourceError(
                    f"{self._root} cannot be listed to its end: it has more than {_MOST_FOLDERS} folders, or makes "
                    "them up; ingest a folder further down, or leave some out (--exclude)"
                )
            try:
                names = retry_request(lambda: self._names(folder), patience=self._patience)  # noqa: B023  called at once
            except (SourceError, ImageTooLarge) as error:
                if not folder:
                    passing = isinstance(error, SourceError) and error.transient
                    raise SourceError(f"{self._root} cannot be listed: {error}", transient=passing) from error
                problems.append(self._hidden(folder, str(error)))
                continue
            if folders is None:
                below = [f"{folder}{name}" for name in names if name.endswith("/")]
                waiting += [name for name in reversed(below) if self._selection.admits(*_split(name))]
                if folder.count("/") >= _DEEPEST and below:
                    problems.append(self._hidden(folder, f"its folders go deeper than {_DEEPEST} levels"))
                    del waiting[-len(below) :]
            for name in names:
                if not name.endswith("/") and self._selection.admits(folder, name):
                    kind = self._selection.kind_of_other(name)
                    if kind is not None and not self._selection.is_image(folder, name):
                        passed_over[kind] += 1
                if self._is_wanted(folder, name):
                    objects.append(SourceObject(self._root + _quote_path(folder + name), folder + name))
                    if len(objects) == OBJECTS_A_PAGE:
                        yield Page(objects, problems, passed_over=passed_over)
                        objects, problems, passed_over = [], [], Counter()
        if objects or problems or passed_over:
            yield Page(objects, problems, passed_over=passed_over)

    def look(self, item: SourceObject) -> SourceObject:
        version = self._fetcher.head(self._with_user(item.uri))
        if version is None:
            return item
        return replace(item, etag=version.etag, size=version.size, mtime=version.mtime)

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return self._fetcher.fetch(self._with_user(item.uri), limits=limits)

    def is_gone(self, uri: str) -> bool | None:
        scheme, _, host = self._root.split("/")[:3]
        return self._fetcher.is_gone(self._with_user(uri)) if uri.startswith(f"{scheme}//{host}/") else None

    def _names(self, folder: str) -> list[str]:
        """What the page of a folder links to directly in that folder, in order; folders end in "/"."""
        url = self._root + _quote_path(folder) if folder else self._first
        links = _Links()
        links.feed(self._fetcher.fetch(self._with_user(url), limits=_LARGEST_PAGE).decode("utf-8", "surrogateescape"))
        base, names = self._root + _quote_path(folder), set()
        for link in links.found:
            try:
                parts = urlsplit(urljoin(base, link.strip()))
            except ValueError:
                continue
            path = _quote_path(_unquote_path(parts.path))
            whole = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
            name = _unquote_path(whole.removeprefix(base))
            if parts.query or "%2f" in parts.path.lower() or not whole.startswith(base) or not name:
                continue
            if "/" not in name[:-1] and name not in ("./", "../", ".", "..", "/"):
                names.add(name)
        return sorted(names)

    def _is_wanted(self, folder: str, name: str) -> bool:
        if name.endswith("/"):
            return False
        return self._selection.admits(folder, name) and self._selection.is_image(folder, name)

    def _hidden(self, folder: str, detail: str) -> Problem:
        return Problem(self._root + _quote_path(folder), "unreadable", detail, hides_objects=True)

    def _with_user(self, uri: str) -> str:
        return uri.replace("://", f"://{self._user}", 1)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _split(folder: str) -> tuple[str, str]:
    """The folder above, and the last part of the name."""
    above, _, name = folder.rstrip("/").rpartition("/")
    return f"{above}/" if above else "", name


# Servers differ in which characters they escape; here one path has one uri.
def _quote_path(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"), safe="/!$&'()*+,;=:@~")


def _unquote_path(path: str) -> str:
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
