"""Strict mode of a Qdrant server, for EdgeApi: refuses what a collection's limits do not allow, in the server's words.

Source: lib/collection/src/operations/verification of https://github.com/qdrant/qdrant
"""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

from qdrant_client import models

from clip_qdrant.errors import StoreError

__all__ = ["RateLimited", "StrictModeRefusal", "StrictModes"]

_MINUTE = 0.5  # seconds that a minute of a rate limit takes here


class StrictModeRefusal(StoreError):
    """Answered 400."""

    def __init__(self, error: str, solution: str) -> None:
        super().__init__(f"{error}. Help: {solution}")


class RateLimited(StoreError):
    """Answered 429."""


class StrictModes:
    """The limits of each collection. `default` is for new ones, as an administrator may set it for a server."""

    def __init__(self, default: dict[str, Any]) -> None:
        self._default = default
        self._by_name: dict[str, dict[str, Any]] = {}
        self._writes: deque[float] = deque()

    def of(self, name: str) -> dict[str, Any]:
        said = self._by_name.get(name, self._default)
        return said if said.get("enabled") else {}

    def set(self, name: str, asked: models.StrictModeConfig | None) -> None:
        if asked is not None:
            self._by_name[name] = {**self.of(name), **asked.model_dump(exclude_none=True)}

    def check(self, method: str, parts: list[str], body: bytes, schema: dict[str, Any]) -> None:
        """Raises what the server answers to a request that goes too far. `schema` are the payload indexes there are."""
        limits = self.of(parts[1])
        if not limits:
            return
        asked = json.loads(body) if body else {}
        asked = asked if isinstance(asked, dict) else {}
        if asked.get("exact") and limits.get("search_allow_exact") is False:
            raise StrictModeRefusal("Exact search disabled!", "Set exact=false.")
        limit, most = asked.get("limit"), limits.get("max_query_limit")
        if most is not None and limit is not None and limit > most:
            solution = f'Reduce the "limit" parameter to or below {most}.'
            raise StrictModeRefusal(f'Limit exceeded {limit} > {most} for "limit"', solution)
        if parts[2:] == ["index"] and method == "PUT":
            most = limits.get("max_payload_index_count")
            if most is not None and asked["field_name"] not in schema and len(schema) >= most:
                error = f"Collection already has the maximum number of payload indices ({most})"
                raise StrictModeRefusal(error, "Please delete an existing index before creating a new one.")
        if limits.get("unindexed_filtering_retrieve") is False:
            bare = [key for key in _keys(asked.get("filter")) if key not in schema]
            if bare:
                error = f'Index required but not found for "{bare[0]}" of one of the following types: [keyword]'
                raise StrictModeRefusal(error, "Create an index for this key or use a different filter.")
        if limits.get("write_rate_limit") is not None and _is_write(method, parts):
            self._count_write(limits["write_rate_limit"])

    def _count_write(self, most: int) -> None:
        now = time.monotonic()
        while self._writes and now - self._writes[0] > _MINUTE:
            self._writes.popleft()
        if len(self._writes) >= most:
            raise RateLimited("Write rate limit exceeded: Operation requires 1 tokens but only 0 were available. Retry")
        self._writes.append(now)


def _is_write(method: str, parts: list[str]) -> bool:
    if parts[2:3] == ["index"]:
        return True
    return parts[2:3] == ["points"] and (method == "PUT" or parts[3:4] in (["delete"], ["payload"], ["batch"]))


def _keys(condition: Any) -> list[str]:
    """The payload keys in a filter."""
    if isinstance(condition, list):
        return [key for one in condition for key in _keys(one)]
    if not isinstance(condition, dict):
        return []
    if isinstance(nested := condition.get("nested"), dict):
        return [f"{nested['key'].removesuffix('[]')}[].{key}" for key in _keys(nested["filter"])]
    own = [condition["key"]] if isinstance(condition.get("key"), str) else []
    return own + [key for name, part in condition.items() if name != "match" for key in _keys(part)]
