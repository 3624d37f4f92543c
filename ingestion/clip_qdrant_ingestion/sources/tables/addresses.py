"""Addresses as a table writes them, made into uris: paths from its folder, absolute paths, links, keys of buckets."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.values import is_utf8
from clip_qdrant.uris import lower_scheme, path_of, to_uri
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.sources.schemes import WEB, is_web, scheme_of

__all__ = ["check_reach", "name_within", "resolve_address"]

_QUERY = re.compile("[?#]")
_ENCODED = frozenset({*WEB, "file"})  # in a bucket every character of a key stands for itself
# What a row may name beside files and the web; others may reach what nobody wanted, such as hosts of this network.
_BUCKETS = ("s3", "gs", "az", "hf")


def resolve_address(address: str, base: str) -> str:
    """The uri that an address means beside the uri `base`. One file has one uri, whatever dots lead to it.

    Raises MetadataError for an address that no row may have.
    """
    if not is_utf8(address):
        raise MetadataError(f"{address!r} is not valid Unicode text (a lone surrogate)")
    address = lower_scheme(address)
    scheme, base_scheme = scheme_of(address), scheme_of(base)
    if scheme in WEB:
        return _check_web(address, address)
    if scheme == "file":
        return to_uri(path_of(address) or address)
    if scheme:
        if not _may_be_named(scheme, _place(address), base):
            known = ", ".join(("file", *sorted(WEB), *_BUCKETS))
            raise MetadataError(
                f"{mask_secrets(address)!r}: a row cannot name objects of "
                f"{mask_secrets(f'{scheme}://{_place(address)}')}; use {known} (a bucket by its mere name), "
                "or the place of the table"
            )
        return address
    path = address.replace("\\", "/")
    if base_scheme in WEB:
        try:
            uri = urljoin(base, path)
        except ValueError as error:
            raise MetadataError(f"{address!r} is no address of an image: {error}") from error
        if not is_web(uri):
            raise MetadataError(f"{address!r} is no address of an image")
        return _check_web(uri, address)
    if base_scheme == "file" or path.startswith("/"):
        folder = path_of(f"{base.rpartition('/')[0]}/") or Path()
        return to_uri(os.path.join(folder, path))  # noqa: PTH118  to_uri takes out the dots of a str
    return _in_bucket(path, base)


def _check_web(uri: str, address: str) -> str:
    try:
        urlsplit(uri)
    except ValueError as error:  # a bracket of IPv6 alone
        raise MetadataError(f"{address!r} is no address of an image: {error}") from error
    return uri


def _may_be_named(scheme: str, place: str, base: str) -> bool:
    """Whether rows may name what lies at a place: a bucket by its mere name, or the bucket or host of the base."""
    if "::" in place:  # it would chain file systems, and reach any of them
        return False
    if scheme == scheme_of(base) and place in (_place(base), _place(base).rpartition("@")[2]):
        return True
    return scheme in _BUCKETS and "@" not in place  # az://container@account would reach any account


def _place(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def check_reach(uri: str, table: str, base: str) -> None:
    """Raises MetadataError for a uri that a row of `table` may not name: a stranger may have written the table.

    Only a local table names local files wherever they are, and one from the web nothing but the web; all name what
    lies below `base`.
    """
    scheme, own = scheme_of(uri), scheme_of(table)
    if uri.startswith(f"{base.rpartition('/')[0]}/") and ".." not in uri.split("/"):
        return
    if own in WEB and scheme not in WEB:
        raise MetadataError(f"{mask_secrets(uri)!r} is not on the web, and a manifest from there can name nothing else")
    if scheme == "file" and own != "file":
        raise MetadataError(
            f"{uri!r} is a local file, which a manifest from elsewhere can name only below a base (--uri-base)"
        )


def _in_bucket(path: str, base: str) -> str:
    prefix, _, place = base.partition("://")
    bucket, _, folder = place.rpartition("/")[0].partition("/")
    key = posixpath.normpath(posixpath.join(folder, path))
    if key.startswith(".."):
        raise MetadataError(f"{path!r} lies outside of the bucket")
    return f"{prefix}://{bucket}/{key}"


def name_within(uri: str, base: str) -> str:
    """The path of a uri from the folder of the uri `base`; its whole path where it does not lie below."""
    folder = f"{base.rpartition('/')[0]}/"
    inside = uri.startswith(folder)
    if scheme_of(uri) not in _ENCODED:
        return (uri.removeprefix(folder) if inside else uri.partition("://")[2]).lstrip("/")
    path = _QUERY.split(uri.removeprefix(folder), maxsplit=1)[0] if inside else urlsplit(uri).path
    return unquote(path, errors="surrogateescape").lstrip("/")
