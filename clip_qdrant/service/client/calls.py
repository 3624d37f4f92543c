"""Calls: what all calls of a client go through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.service.client.encode import encode_where

if TYPE_CHECKING:
    from clip_qdrant.filters.build import Where
    from clip_qdrant.service.client.transport import Transport

__all__ = ["Calls", "without_none"]


class Calls:
    """Some of the calls of a client, to the collection of this name, or to the one that the service serves."""

    def __init__(self, transport: Transport, name: str | None) -> None:
        self.name = name
        self._transport = transport

    def _ask(
        self,
        path: str,
        asked: Mapping[str, Any],
        *,
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Any:
        body = {"collection": self.name, **asked, "where": encode_where(where), **_tell_options(options)}
        return self._transport.send("POST", path, json=without_none(body))


def _tell_options(options: SearchOptions | None) -> dict[str, Any]:
    """Those that are not as they always are."""
    if options is None:
        return {}
    usual = SearchOptions()
    given = {name: getattr(options, name) for name in SearchOptions.__dataclass_fields__}
    return {name: value for name, value in given.items() if value != getattr(usual, name)}


def without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
