"""The file of keys (TOML), in which each has a name, scopes and, if it is not for everything, its limits.

[[keys]]
name = "shop"
sha256 = "9f86d0…"            # of the key; or key = "…", the key itself
scopes = ["read"]
collections = ["photos"]       # all without
tenant = { field = "tenant", value = "acme" }
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.keys.key import ApiKey, KeyScope, Tenant, expand_scopes

__all__ = ["SHORTEST_KEY", "digest_key", "read_key_file"]

SHORTEST_KEY = 16  # characters
_Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.@ -]+$")]


class _TenantEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    field: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    value: Annotated[str, Field(min_length=1)]


class _KeyEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: _Name
    key: SecretStr | None = Field(default=None, min_length=SHORTEST_KEY)
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    scopes: Annotated[list[KeyScope], Field(min_length=1)]
    collections: Annotated[list[str], Field(min_length=1)] | None = None
    tenant: _TenantEntry | None = None

    @model_validator(mode="after")
    def check(self) -> _KeyEntry:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either key or sha256")
        return self


class _KeyDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[_KeyEntry] = []


def digest_key(key: str) -> bytes:
    """What is kept of a key: its SHA-256. Keys are long and random, so nothing slower is needed."""
    return hashlib.sha256(key.encode()).digest()


def read_key_file(path: Path) -> dict[bytes, ApiKey]:
    """The keys in a file by their digests. Raises ConfigError, which shows no key."""
    try:
        document = _KeyDocument.model_validate(_read_toml(path))
    except ValidationError as error:
        raise ConfigError(f"the keys in {path} cannot be used: {'; '.join(map(_explain, error.errors()))}") from None
    found: dict[bytes, ApiKey] = {}
    names: set[str] = set()
    for entry in document.keys:
        digest = digest_key(entry.key.get_secret_value()) if entry.key else bytes.fromhex(entry.sha256 or "")
        if entry.name in names or digest in found:
            raise ConfigError(f"{path} has two keys of the name {entry.name!r}, or the same key twice: one of each")
        names.add(entry.name)
        found[digest] = ApiKey(
            name=entry.name,
            scopes=expand_scopes(entry.scopes),
            collections=None if entry.collections is None else frozenset(entry.collections),
            tenant=None if entry.tenant is None else Tenant(entry.tenant.field, entry.tenant.value),
        )
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the keys in {path}: {error.strerror or error}") from error
    except ValueError as error:  # no TOML, or no UTF-8; what it says may show a part of a line
        raise ConfigError(f"the keys in {path} cannot be used: it is not a TOML file") from error


def _explain(problem: Any) -> str:
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in problem["loc"])
    message = re.sub("^Value error, ", "", problem["msg"])
    if problem["loc"][-2:-1] == ("scopes",) or problem["loc"][-1:] == ("scopes",):
        message = f"one or more of {', '.join(get_args(KeyScope))}"
    return f"{place or 'the file'}: {message}"
