"""The scheme of a location: of a URL what is before "://"."""

from __future__ import annotations

__all__ = ["WEB", "is_web", "scheme_of"]

WEB = frozenset({"http", "https"})
_OTHER_NAMES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "adl": "az"}


def scheme_of(url: str) -> str:
    """The scheme of a URL under its usual name: s3a:// is s3, file:/a is file. "" for what has none."""
    if url[:5].lower() == "file:":
        return "file"
    scheme, found, _ = url.partition("://")
    scheme = scheme.lower() if found else ""
    return _OTHER_NAMES.get(scheme, scheme)


def is_web(url: str) -> bool:
    """Whether a location is an address of the web."""
    return scheme_of(url) in WEB
