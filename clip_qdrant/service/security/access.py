"""Access: what the caller of one request may do. The one way from a handler to a collection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import SplitResult, urlsplit

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from clip_qdrant.errors import Forbidden
from clip_qdrant.hosts import is_loopback
from clip_qdrant.service.keys.key import OPEN, ApiKey, KeyScope
from clip_qdrant.service.state import Service, get_service

if TYPE_CHECKING:
    from clip_qdrant.collection.images import ImageCollection

__all__ = ["Access", "find_access", "find_caller", "needs", "read_key"]

_KEYS = "set keys for the service (key_file, service_key)"


@dataclass(frozen=True, slots=True)
class Access:
    """What the caller of a request may do, by its key."""

    service: Service
    key: ApiKey
    request_id: str
    address: str | None = None

    def open(self, name: str | None = None, *, create: bool = False) -> ImageCollection:
        """The collection of this name, or the one of the service, with those of its images that the key may see. It may
        ask the store, so call it inside `run_blocking`.

        With `create` it need not be there yet: the first write creates it. Raises Forbidden, CollectionNotFound,
        FingerprintMismatch.
        """
        name = self.service.options.collection if name is None else name
        if not self.may_use(name):
            raise Forbidden(f"this key is not for the collection {name!r}")
        return self.service.collections.open(name, tenant=self.key.tenant, create=create)

    def may_use(self, name: str) -> bool:
        """Whether the key is for the collection of this name."""
        return self.key.collections is None or name in self.key.collections

    def require(self, scope: KeyScope) -> None:
        """Raises Forbidden unless the key has this scope too."""
        if scope not in self.key.scopes:
            may = ", ".join(sorted(self.key.scopes))
            raise Forbidden(f"this needs a key with the scope {scope!r}; the one that was sent may: {may}")

    def audit(self, action: str, collection: str, details: Mapping[str, Any]) -> None:
        """Notes a write in the audit log, once it is done. It writes to a file: call it inside `run_blocking`."""
        tenant = self.key.tenant
        who = {"key": self.key.name, "address": self.address, "tenant": None if tenant is None else tenant.value}
        self.service.audit.write(
            {"action": action, "collection": collection, **details, **who, "request_id": self.request_id}
        )


_Bearer = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, description="a key of the service"))
]
_Header = Annotated[str | None, Depends(APIKeyHeader(name="api-key", auto_error=False))]


async def read_key(request: Request, bearer: _Bearer, header: _Header) -> str | None:
    """A dependency: the key in the headers of a request."""
    return bearer.credentials if bearer else header or request.headers.get("X-API-Key")


def needs(scope: KeyScope) -> Callable[[Request, Any], Awaitable[Access]]:
    """A dependency: the access of the caller, whose key has to have this scope. Raises Unauthorized, Forbidden."""

    async def find(request: Request, key: Annotated[str | None, Depends(read_key)]) -> Access:
        return find_access(request, key, scope)

    return find


def find_access(request: Request, key: str | None, scope: KeyScope) -> Access:
    """The access of a caller whose key has to have this scope. Raises Unauthorized, Forbidden."""
    address = request.client.host if request.client else None
    access = Access(get_service(request), find_caller(request, key), request.state.request_id, address)
    access.require(scope)
    return access


def find_caller(request: Request, key: str | None) -> ApiKey:
    """Who has sent this request, by the key in it. Raises Unauthorized.

    A service without keys answers its own computer alone, and no pages of others that a browser there has open: not
    those that got themselves an address of this computer (DNS rebinding), nor those of another origin; to those it
    raises Forbidden.
    """
    service = get_service(request)
    if not service.keys.is_open:
        found = service.keys.find(key)
        request.state.caller = found.name
        return found
    server = request.scope.get("server") or ("", None)
    if server[1] is not None and not is_loopback(server[0]):  # a socket of the file system has no port
        raise Forbidden(f"without keys the service answers its own computer alone: {_KEYS}")
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_loopback(_split_host(f"//{host}").hostname or ""):
        raise Forbidden(f"without keys the service answers to localhost alone, not to the name {host!r}: {_KEYS}")
    is_known = origin is None or origin in service.options.cors_origins or _split_host(origin).netloc == host
    if not is_known:
        raise Forbidden(
            f"without keys the service answers no pages of {origin}: name it among its origins (cors_origins), "
            f"or {_KEYS}"
        )
    return OPEN


def _split_host(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # brackets without an address in them
        return urlsplit("")
