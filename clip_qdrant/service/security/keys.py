"""Keys of callers, and what each of them may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["OPEN", "ApiKey", "KeyScope"]

KeyScope: TypeAlias = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who a caller is: `name` is what the audit log has. `collections` are all that it may use; None: all there are."""

    name: str
    scopes: frozenset[KeyScope]
    collections: frozenset[str] | None = None


OPEN = ApiKey(name="anybody", scopes=frozenset({"read", "write", "admin"}))  # where no keys are asked for
