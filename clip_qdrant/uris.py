"""Names of images: the uri of a path, the path of a uri, and the point id of a uri."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from urllib.parse import unquote_to_bytes

__all__ = ["LONGEST_URI", "lower_scheme", "path_of", "point_id", "read_uri", "to_uri"]

# Characters. A path of 4,096 bytes, the most that Linux takes, has three times as many when all of it is escaped.
LONGEST_URI = 1 << 14

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(?i:urn|file):")
_QUERY = re.compile("[?#]")
_POINT_NAMESPACE = uuid.UUID("6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51")


def point_id(uri: str) -> str:
    """The id of the point of the image at `uri`: uuid5 (RFC 9562) in a fixed namespace, so writing is idempotent."""
    return str(uuid.uuid5(_POINT_NAMESPACE, uri))


def to_uri(name: str | Path) -> str:
    """The uri of an image: a name that has a scheme already stands for itself, anything else is a local path.

    Upper and lower case are one in a scheme (RFC 3986, 3.1), so it is written in lower case.

    A path becomes absolute and percent-encoded (`file:///…`, RFC 8089), so that any byte in a file name survives.
    `.` and `..` are taken out, so that one file has one uri from every folder; links are not followed.
    """
    if isinstance(name, str) and _HAS_SCHEME.match(name):
        return lower_scheme(name)
    return Path(os.path.abspath(name)).as_uri()  # noqa: PTH100  Path.absolute() keeps `..`


def read_uri(given: object) -> str | None:
    """A uri as it is kept, with its scheme in lower case. None for what is none, as a path: what it names depends on
    the working folder."""
    return lower_scheme(given) if isinstance(given, str) and _HAS_SCHEME.match(given) else None


def lower_scheme(name: str) -> str:
    """The name with its scheme, if it has one, in lower case."""
    if not _HAS_SCHEME.match(name):
        return name
    scheme, colon, rest = name.partition(":")
    return scheme.lower() + colon + rest


def path_of(uri: str) -> Path | None:
    """The local path behind a `file:` uri, None for any other."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "file":
        return None
    path = _QUERY.split(rest, maxsplit=1)[0]
    if path.startswith("//"):  # behind it is a host, as a rule an empty one
        _, slash, below = path[2:].partition("/")
        path = slash + below
    return Path(os.fsdecode(unquote_to_bytes(path)))
