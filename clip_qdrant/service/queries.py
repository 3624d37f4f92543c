"""From queries of a request to those of the library: images decoded from base64, uploaded, or fetched from the web."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.query import Query
from clip_qdrant.errors import QueryError, RequestTooLarge
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.service.batching.ahead import embed_ahead
from clip_qdrant.service.bodies.queries import TermBody

if TYPE_CHECKING:
    from clip_qdrant.service.bodies.queries import QueryBody
    from clip_qdrant.service.bodies.search import HitsRequest
    from clip_qdrant.service.options import ServiceOptions
    from clip_qdrant.service.state import Service

__all__ = ["QueryReader", "check_length", "check_options", "check_where", "embed_texts_ahead"]


class QueryReader:
    """Of one request. `uploads` are the files that came with it; what is fetched and decoded blocks."""

    def __init__(self, service: Service, uploads: Sequence[bytes] = ()) -> None:
        self._options = service.options
        self._fetcher = service.fetcher
        self._uploads = uploads
        self._used: set[int] = set()
        self._number = 0

    def read(self, body: QueryBody) -> Query:
        """The query. Raises QueryError, ImageError, SourceError, RequestTooLarge."""
        total = self._read_term(body[0] if isinstance(body, list) else body)
        for term in body[1:] if isinstance(body, list) else ():
            total = total + self._read_term(term)
        return total

    def read_all(self, bodies: Iterable[QueryBody]) -> list[Query]:
        return [self.read(body) for body in bodies]

    def read_unnamed(self) -> list[Query]:
        """A query for each file that no term has named."""
        return [self._read_term(TermBody(upload=position)) for position in self._find_unnamed()]

    def check_uploads(self) -> None:
        """Raises QueryError if there is a file that no term has named."""
        unnamed = self._find_unnamed()
        if unnamed:
            raise QueryError(
                f'file {unnamed[0]} of the form is named by no term: say {{"upload": {unnamed[0]}}} in one'
            )

    def _find_unnamed(self) -> list[int]:
        return [position for position in range(len(self._uploads)) if position not in self._used]

    def _read_term(self, body: str | TermBody) -> Query:
        self._number += 1
        if self._number > self._options.max_batch:
            raise RequestTooLarge(f"the queries have more than {self._options.max_batch} terms, the most of a request")
        if isinstance(body, str):
            check_length("a query", body, self._options)
            return Query.text(body)
        return body.weight * self._read_kind(body)

    def _read_kind(self, body: TermBody) -> Query:
        if body.text is not None:
            check_length("a query", body.text, self._options)
            return Query.text(body.text, raw=body.raw)
        if body.id is not None:
            return Query.id(body.id)
        if body.vector is not None:
            return Query.vector(body.vector)
        return Query.image(self._read_image(body), box=body.box)

    def _read_image(self, body: TermBody) -> bytes:
        if body.image is not None:
            return decode_inline_image(body.image, limits=self._options.limits)
        if body.url is not None:
            return self._fetcher.fetch(body.url, limits=self._options.limits)
        assert body.upload is not None, "a term is of one kind"
        if body.upload >= len(self._uploads):
            raise QueryError(
                f"there is no upload {body.upload}: the request has {len(self._uploads)} files; send them as parts "
                "`image` of a form (multipart/form-data), counted from 0"
            )
        self._used.add(body.upload)
        return self._uploads[body.upload]


async def embed_texts_ahead(bodies: Iterable[QueryBody | None], service: Service) -> None:
    """Embeds what texts there are in queries, which are read later: then their threads need not wait for the encoder.

    Texts that a search refuses are left to it. Raises Overloaded, DeadlineExceeded.
    """
    terms = [term for body in bodies if body is not None for term in (body if isinstance(body, list) else [body])]
    if len(terms) > service.options.max_batch:
        return
    texts = [term if isinstance(term, str) else term.text for term in terms if isinstance(term, str) or not term.raw]
    longest = service.options.max_query_length
    await embed_ahead([text for text in texts if text and text.strip() and len(text) <= longest], service.embedder)


def check_options(body: HitsRequest, options: ServiceOptions) -> None:
    """Raises QueryError for more hits, and RequestTooLarge for longer texts, than the service allows."""
    check_where(body.where, options)
    if isinstance(body.text, str):
        check_length("text", body.text, options)
    per_hit = 1 if body.group_by is None else body.group_size
    wanted = body.offset + body.limit * per_hit
    if wanted > options.max_hits:
        raise QueryError(
            f"{wanted} hits are asked for, with those that offset skips, and {options.max_hits} are the most here; "
            "narrow the search by where"
        )


def check_where(where: str | dict[str, Any] | None, options: ServiceOptions) -> None:
    """Raises RequestTooLarge for a filter that is longer than the service allows."""
    if where is not None:
        check_length("where", where if isinstance(where, str) else json.dumps(where), options)


def check_length(what: str, text: str, options: ServiceOptions) -> None:
    """Raises RequestTooLarge for a text that is longer than the service allows."""
    if len(text) > options.max_query_length:
        raise RequestTooLarge(f"{what} has {len(text)} characters, and {options.max_query_length} are the most here")
