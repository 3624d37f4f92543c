"""call(): the one way in which this package calls a Qdrant client.

Whichever client it is, what goes wrong comes out as a StoreError; what may pass by itself is tried again first.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TypeVar

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import httpx
from pydantic import ValidationError
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from clip_qdrant.errors import (
    ClipQdrantError,
    CollectionExists,
    CollectionNotFound,
    PointNotFound,
    StoreError,
    StoreUnavailable,
)
from clip_qdrant.retry import retry

__all__ = ["call"]

_T = TypeVar("_T")

_PASSING_STATUSES = frozenset({429, 502, 503, 504})
_PASSING_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
_STATUS_OF_CODE = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
}
_OF_A_CLIENT = (
    *(ApiException, QdrantException, grpc.RpcError, httpx.HTTPError),  # with a server
    *(ValueError, KeyError, RuntimeError, OSError),  # without one
)
# What TLS and h11 say where the other side speaks plain HTTP, and the other way round.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")
_TLS = ("illegal request line", "illegal status line")
# What a server says to a condition that it does not know, over HTTP and gRPC.
_UNKNOWN_CONDITION = ("did not match any variant of untagged enum", "Malformed Match condition", "Malformed condition")
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_UNKNOWN_AUTHORITY = ("self-signed", "self signed", "unable to get local issuer", "unable to get issuer")
_WHAT_NOW = "is the server running (docker compose up -d qdrant), and the address right?"
_STEP = 0.1  # seconds between looks at whether to stop
_LONGEST_PAUSE = 5.0  # seconds


def call(
    operation: Callable[[], _T], *, what: str, patience: float = 2.0, stopped: Callable[[], bool] = lambda: False
) -> _T:
    """The result of `operation`, one call of a Qdrant client. `what` says in an error what was tried ("count photos").

    Refused and broken connections, a process of the store that ended, timeouts and the statuses 429, 502, 503 and 504
    are tried again with growing pauses, as long as the next try begins within `patience` seconds of the first and
    `stopped` does not say that it is enough. What a try takes counts: a timeout is tried again only where the client's
    own timeout is shorter than `patience`. So `operation` must do no harm when it is run twice.

    Raises StoreUnavailable (no answer, or wrong credentials, which are never tried again), CollectionNotFound,
    CollectionExists, or StoreError with the server's own words. Errors of this package, those of EdgeClient among them,
    pass through as they are.
    """
    try:
        return retry(
            operation,
            what=what,
            patience=patience,
            may_pass=lambda error: _may_pass(error) and not stopped(),
            longest_pause=_LONGEST_PAUSE,
            least_pause=_read_pause,
            sleep=lambda seconds: _sleep(seconds, stopped),
        )
    except ClipQdrantError:
        raise
    except _OF_A_CLIENT as error:
        raise _translate(error, what) from error


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, _STEP))


def _read_pause(error: BaseException) -> float:
    return float(error.retry_after_s) if isinstance(error, ResourceExhaustedResponse) else 0.0


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ResponseHandlingException):
        error = error.source
    if isinstance(error, StoreUnavailable):  # of a client that has a process of its own
        return error.transient
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _PASSING_STATUSES
    if isinstance(error, grpc.RpcError):
        return _code(error) in _PASSING_CODES
    return isinstance(error, ResourceExhaustedResponse) or (
        isinstance(error, httpx.TransportError)
        and not isinstance(error, httpx.UnsupportedProtocol)
        and _explain_protocol(_words(error), _address(error)) is None
    )


def _translate(error: Exception, what: str) -> StoreError:
    if isinstance(error, ResponseHandlingException):
        error = error.source
    if isinstance(error, httpx.TransportError):
        if (why := _explain_protocol(_words(error), _address(error))) is not None:
            return StoreUnavailable(f"{what}: {why}")
        kind = "did not answer in time" if isinstance(error, httpx.ReadTimeout) else "cannot be reached"
        return StoreUnavailable(f"{what}: Qdrant at {_address(error)} {kind} ({_words(error)}); {_WHAT_NOW}")
    if isinstance(error, UnexpectedResponse):
        return _refusal(what, error.status_code or 0, *_server_words(error))
    if isinstance(error, ResourceExhaustedResponse):
        return _refusal(what, 429, str(error), True)
    if isinstance(error, grpc.RpcError):
        code, details = _code(error), _words(error)
        if (why := _explain_protocol(details, "its address")) is not None:
            return StoreUnavailable(f"{what}: {why}")
        if code in _PASSING_CODES:
            return StoreUnavailable(f"{what}: Qdrant does not answer ({details}); {_WHAT_NOW}")
        return _refusal(what, _STATUS_OF_CODE.get(code, 400), details, True)
    if isinstance(error, ValidationError):
        return StoreError(f"{what}: the answer or the request does not fit this version of qdrant-client ({error})")
    if isinstance(error, json.JSONDecodeError):
        return StoreError(f"{what}: the answer is not one of Qdrant ({error}); is the address right?")
    # What the clients without a server (QdrantClient(":memory:") and path=) raise.
    if isinstance(error, KeyError):
        return PointNotFound(f"{what}: there is no point {error}")
    return _find_named_error(what, str(error)) or StoreError(f"{what}: {error}")


def _refusal(what: str, status: int, words: str, is_qdrant: bool) -> StoreError:
    if status == 401 or (status == 403 and "invalid" in words.lower()):
        refused = "wants an API key" if "provide" in words.lower() else "refused the API key"
        way_out = "set CLIP_QDRANT_API_KEY, or api_key= of connect(), to one that the server knows"
        return StoreUnavailable(f"{what}: Qdrant {refused} ({status}: {words}); {way_out}")
    if status == 403:
        return StoreUnavailable(
            f"{what}: the API key has no right to this (403: {words}); it may only read, or is for other collections: "
            "use one that may write to this collection, and to create or delete it one with access to all"
        )
    if status in _PASSING_STATUSES:
        return StoreUnavailable(f"{what}: Qdrant is not ready ({status}: {words}); try again later")
    if status == 404 and not is_qdrant:
        return StoreUnavailable(f"{what}: what answers is no Qdrant server (404: {words}); is the address right?")
    if status in (400, 422) and any(each in words for each in _UNKNOWN_CONDITION):
        return StoreError(
            f"{what}: Qdrant answered {status}: {words}; if the server is older than this request, update it, or leave "
            "the condition out: ^= needs Qdrant 1.19, ~ on a keyword field 1.20"
        )
    if status in (400, 404, 409) and (named := _find_named_error(what, words)):
        return named
    return StoreError(f"{what}: Qdrant answered {status}: {words}")


def _explain_protocol(words: str, address: str) -> str | None:
    """What is wrong where the two sides do not speak the same protocol, or one does not trust the other."""
    if _UNTRUSTED in words:
        way_out = "is its clock, its certificate and the address right?"
        if any(each in words for each in _UNKNOWN_AUTHORITY):
            way_out = (
                "if a private authority signed it, name the file with the certificate of that authority: "
                "CLIP_QDRANT_CA_FILE, ca_file= of connect(), or SSL_CERT_FILE"
            )
        return f"the certificate of Qdrant at {address} is not trusted ({words}); {way_out}"
    if any(each in words for each in _NO_TLS):
        return f"what answers at {address} does not speak TLS ({words}); write http:// in place of https://"
    if any(each in words for each in _TLS):
        return (
            f"what answers at {address} speaks TLS, or is no HTTP server ({words}); write https:// in place of http://"
        )
    return None


def _find_named_error(what: str, words: str) -> StoreError | None:
    if re.search(r"\bcollection\b.*(doesn't exist|not found|does not exist)", words, re.IGNORECASE | re.DOTALL):
        return CollectionNotFound(f"{what}: {words}")
    if re.search(r"\bcollection\b.*already exists", words, re.IGNORECASE | re.DOTALL):
        return CollectionExists(f"{what}: {words}")
    if re.search(r"\bno point with id\b", words, re.IGNORECASE):
        return PointNotFound(f"{what}: {words}")
    return None


def _server_words(error: UnexpectedResponse) -> tuple[str, bool]:
    """What the server said, and whether it said it in the way of Qdrant."""
    try:
        return str(json.loads(error.content)["status"]["error"]), True
    except (ValueError, KeyError, TypeError):
        text = error.content.decode("utf-8", "replace").strip()
        return text[:200] or error.reason_phrase, False


def _address(error: httpx.TransportError) -> str:
    try:
        url = error.request.url
    except RuntimeError:  # httpx: the request is not known
        return "its address"
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _code(error: grpc.RpcError) -> grpc.StatusCode | None:
    # RpcError itself has neither; what a channel raises is a Call too.
    code = getattr(error, "code", None)
    return code() if code else None


def _words(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error) or type(error).__name__
