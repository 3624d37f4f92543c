"""KeyRing: the keys in force. Those of a file change with the file, while the service runs."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from clip_qdrant.errors import ConfigError, Unauthorized
from clip_qdrant.service.keys.file import SHORTEST_KEY, digest_key, read_key_file
from clip_qdrant.service.keys.key import ApiKey

__all__ = ["KeyRing"]

logger = logging.getLogger(__name__)


class KeyRing:
    """Some keys, by what they are, and those of a file, which is read again when it has changed.

    A file that cannot be read any more changes nothing: what it had stays in force, and the log says so. Raises
    ConfigError for one that cannot be read at the start, and for a key of less than 16 characters.
    """

    def __init__(self, keys: Mapping[str, ApiKey] | None = None, *, file: Path | None = None) -> None:
        for key, who in (keys or {}).items():
            if len(key) < SHORTEST_KEY:
                raise ConfigError(
                    f"the key {who.name!r} has {len(key)} characters, and needs {SHORTEST_KEY} at least: "
                    "`openssl rand -hex 32` makes one"
                )
        self._fixed = {digest_key(key): who for key, who in (keys or {}).items()}
        self._file = file
        self._lock = threading.Lock()
        self._version = None if file is None else _version(file)
        self._of_file = {} if file is None else read_key_file(file)

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for, as there is neither one nor a file of them."""
        return not self._fixed and self._file is None

    def find(self, key: str | None) -> ApiKey:
        """Who has this key. All keys are compared, in constant time. Raises Unauthorized."""
        if not key:
            raise Unauthorized("this service asks for a key: send it as `Authorization: Bearer KEY`, or as `api-key`")
        self._refresh()
        digest, found = digest_key(key), None
        for known, who in {**self._of_file, **self._fixed}.items():
            if hmac.compare_digest(known, digest):
                found = who
        if found is None:
            raise Unauthorized("this key is not known here, or not any more")
        return found

    def _refresh(self) -> None:
        if self._file is None or _version(self._file) == self._version:
            return
        with self._lock:
            version = _version(self._file)
            if version == self._version:
                return
            self._version = version
            try:
                self._of_file = read_key_file(self._file)
            except ConfigError as error:
                logger.error("%s; the keys that it had before stay in force", error)  # noqa: TRY400  no trace is needed
            else:
                logger.info("%s has %d keys now", self._file, len(self._of_file))


def _version(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None for one that is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
