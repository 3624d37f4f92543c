"""Access: what the caller of one request may do. The one way from a handler to a collection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from clip_qdrant.errors import Forbidden
from clip_qdrant.service.security.keys import OPEN, ApiKey, KeyScope
from clip_qdrant.service.state import Service, get_service

if TYPE_CHECKING:
    from clip_qdrant.collection.images import ImageCollection

__all__ = ["Access", "needs"]


@dataclass(frozen=True, slots=True)
class Access:
    """What the caller of a request may do, by its key."""

    service: Service
    key: ApiKey
    request_id: str

    def open(self, name: str | None = None, *, create: bool = False) -> ImageCollection:
        """The collection of this name, or the one of the service: what the key may see of it. It may ask the store, so
        call it inside `run_blocking`.

        With `create` it need not be there yet: the first write creates it. Raises Forbidden, CollectionNotFound,
        FingerprintMismatch.
        """
        name = self.service.options.collection if name is None else name
        if self.key.collections is not None and name not in self.key.collections:
            raise Forbidden(f"this key is not for the collection {name!r}")
        return self.service.collections.open(name, create=create)


def needs(scope: KeyScope) -> Callable[[Request], Awaitable[Access]]:
    """A dependency: the access of the caller, whose key has to have this scope. Raises Unauthorized, Forbidden."""

    async def find_access(request: Request) -> Access:
        service = get_service(request)
        if scope not in OPEN.scopes:
            raise Forbidden(f"this key may not {scope}")
        return Access(service, OPEN, request.state.request_id)

    return find_access
