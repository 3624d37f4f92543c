"""Keys of callers, and what each of them may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clip_qdrant.errors import ConfigError

__all__ = ["OPEN", "SCOPES", "ApiKey", "KeyScope", "Tenant", "expand_scopes"]

KeyScope: TypeAlias = Literal["read", "write", "admin"]
SCOPES: tuple[KeyScope, ...] = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose images a key is for: those whose metadata `field` is `value`. All that the key writes gets it."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who a caller is: `name` is what logs have. `collections` are all that it may use; None: all there are.

    Raises ConfigError for a tenant's key that may administer.
    """

    name: str
    scopes: frozenset[KeyScope]
    collections: frozenset[str] | None = None
    tenant: Tenant | None = None

    def __post_init__(self) -> None:
        if self.tenant is not None and "admin" in self.scopes:
            raise ConfigError(
                f"the key {self.name!r} of a tenant cannot have the scope admin, which is over all tenants"
            )


def expand_scopes(scopes: Iterable[KeyScope]) -> frozenset[KeyScope]:
    """The scopes with what they include: who may administer may also read and write."""
    given = frozenset(scopes)
    return frozenset(SCOPES) if "admin" in given else given


OPEN = ApiKey(name="anybody", scopes=frozenset(SCOPES))  # where no keys are asked for
