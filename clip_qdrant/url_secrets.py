"""Secrets that URLs hold: passwords before the host, and signatures and tokens in the query.

`mask_secrets` is for whatever is shown, logged or noted as text, `mask_document` for JSON; `remove_secrets` makes of an
address the uri that a collection may keep, and that its point is named by.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["mask_document", "mask_secrets", "remove_secrets"]

_MASK = "***"
_WEB = ("http", "https")
# What is between "://" and white space, or the next "://" of a chain of file systems (zip://a.zip::sftp://…).
_PLACE = re.compile(r"(?:(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*))?://((?:(?!://)\S)+)")
_PARAMETER = re.compile(r"([?&;])([A-Za-z][\w.%-]*)=([^&;#\s'\"<>]+)")
_HOST = re.compile(r"localhost|\[.*\]|.*\..*", re.IGNORECASE)

# Ends of names of parameters, without case and punctuation: X-Amz-Security-Token, access_token, sig, apiKey …
_PASSWORDS = ("password", "passwd", "passphrase", "pwd", "secret")
_TOKENS = ("signature", "sig", "token", "credential", "apikey", "accesskey", "auth", "authorization", "jwt", "hmac")
_LONG_KEY = re.compile(r"[\w-]{20,}")  # of a parameter named just "key", which may as well be a path
_DIGEST = re.compile(r"sha256-[0-9a-f]{8}")

# The parameters that sign an address for a while, by what tells that they are there. None of them names the object.
_SIGNED_PREFIXES = ("xamz", "xgoog")
_AZURE = frozenset(  # of a shared access signature
    {"sv", "sr", "ss", "srt", "st", "se", "sp", "sip", "spr", "sig", "scid", "sdd", "ses"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid"}
)
_SIGNERS = frozenset({"awsaccesskeyid", "googleaccessid", "keypairid", "ossaccesskeyid"})
_SIGNED = _SIGNERS | {"signature", "expires", "policy"}


def mask_secrets(text: str) -> str:
    """A text in which the secrets of all URLs are `***`: who is asked as, passwords, signatures, tokens.

    Where a password may hold a "/" or an "@", rather more is masked than less.
    """
    if "://" in text:
        text = _PLACE.sub(lambda found: f"{found[1] or ''}://{_mask_user(found[1] or '', found[2])}", text)
    if "=" in text:
        text = _PARAMETER.sub(_mask_parameter, text)
    return text


def mask_document(document: Any) -> Any:
    """What is to be JSON, with the secrets of the URLs in its texts masked."""
    if isinstance(document, str):
        return mask_secrets(document)
    if isinstance(document, Mapping):
        return {mask_document(name): mask_document(value) for name, value in document.items()}
    return [mask_document(value) for value in document] if isinstance(document, list | tuple) else document


def remove_secrets(uri: str) -> str:
    """The uri without what may not be kept: it stays the same when an address is signed anew.

    A user of the web, passwords, and the parameters of signed addresses (S3, Google, Azure, CloudFront) are left out.
    Any other token becomes the beginning of its SHA-256, so that addresses which differ in it alone stay two.
    """
    uri = _PLACE.sub(lambda found: f"{found[1] or ''}://{_remove_user(found[1] or '', found[2])}", uri)
    scheme, _, place = uri.partition("://")
    if scheme.lower() in _WEB and "?" in place:
        return f"{scheme}://{_remove_parameters(place)}"
    return uri


def _mask_user(scheme: str, place: str) -> str:
    end = _end_of_user(place, wary=True)
    if not end or (scheme.lower() not in ("", *_WEB) and ":" not in place[:end]):  # sftp://me@host, az://box@account
        return place
    return f"{_MASK}@{place[end:]}"


def _remove_user(scheme: str, place: str) -> str:
    end = _end_of_user(place)
    user = "" if not end or scheme.lower() in _WEB else place[: end - 1].partition(":")[0]
    return (f"{user}@" if user else "") + place[end:]


def _end_of_user(place: str, *, wary: bool = False) -> int:
    """Where the host begins, behind the "@" of a user and a password; 0 where there are none.

    "/", "?" and "#" may not stand in them unescaped, and do: what looks like a port and is none is a password. `wary`
    also looks behind what may well be a port, or the host.
    """
    authority = re.split("[/?#]", place, maxsplit=1)[0]
    end, last = authority.rfind("@") + 1, place.rfind("@") + 1
    if end:
        host, _, port = authority[end:].partition(":")
        is_cut = wary and ":" in authority[:end] and not (_HOST.fullmatch(host) or port.isdigit())
        return last if is_cut else end
    name, _, port = authority.partition(":")
    if name.startswith("[") or not port or (port.isdigit() and not (wary and not _HOST.fullmatch(name))):
        return 0
    return last


def _mask_parameter(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    is_secret = _ends_in(name, (*_PASSWORDS, *_TOKENS)) or (name.lower() == "key" and _LONG_KEY.match(value))
    return f"{before}{name}={_MASK}" if is_secret and not _DIGEST.fullmatch(value) else found[0]


def _remove_parameters(place: str) -> str:
    path, _, rest = place.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    parameters = re.split("[&;]", query)
    names = [_plain(parameter.partition("=")[0]) for parameter in parameters]
    kept = [
        _digest_value(parameter)
        for name, parameter in zip(names, parameters, strict=True)
        if not _is_signing(name, names) and not name.endswith(_PASSWORDS)
    ]
    if kept == parameters:
        return place
    return path + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def _is_signing(name: str, names: Collection[str]) -> bool:
    return (
        name.startswith(_SIGNED_PREFIXES)
        or (name in _AZURE and {"sv", "sig"} <= set(names))
        or (name in _SIGNED and "signature" in names and not _SIGNERS.isdisjoint(names))
    )


def _digest_value(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    is_secret = _ends_in(name, _TOKENS) or (name.lower() == "key" and _LONG_KEY.match(value))
    if not value or not is_secret or _DIGEST.fullmatch(value):
        return parameter
    return f"{name}=sha256-{hashlib.sha256(value.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def _ends_in(name: str, ends: tuple[str, ...]) -> bool:
    return _plain(name).endswith(ends)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
