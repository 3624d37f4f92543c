"""Transport: requests to a service, tried again while it is busy; its problems as errors of this package."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import httpx

from clip_qdrant import errors
from clip_qdrant.errors import ServiceError, first_line
from clip_qdrant.retry import retry
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["Transport"]

_PREFIX = "urn:clip-qdrant:"
_SECONDS = re.compile(r"\d{1,6}")
# Of a service that speaks of its errors otherwise, as a proxy before it may.
_BY_STATUS: Mapping[int, type[errors.ClipQdrantError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotServed,
    413: errors.RequestTooLarge,
    503: errors.Overloaded,
    504: errors.DeadlineExceeded,
}

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class _Busy(Exception):
    """An answer that another try may change, after a pause."""

    def __init__(self, error: errors.ClipQdrantError, pause: float) -> None:
        self.error, self.pause = error, pause
        super().__init__(str(error))


class Transport:
    """Sends requests of one client. May be used from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None, timeout: float, patience: float, http: httpx.Client | None
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._sleep = time.sleep
        self._is_ours = http is None
        self._http = http or httpx.Client(timeout=timeout)
        self.shown_url = mask_secrets(self.url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def close(self) -> None:
        """Closes its connections; those of an httpx.Client that was passed in belong to whoever did."""
        if self._is_ours:
            self._http.close()

    def send(self, method: Method, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON of the answer. Raises errors of this package."""
        response = self.fetch(method, path, json=json, params=params)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise self._wonder(response) from error

    def fetch(
        self, method: Method, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """The whole answer, once it is none that says the service is busy."""
        wanted = None if params is None else {name: value for name, value in params.items() if value is not None}

        def attempt() -> httpx.Response:
            with self._as_errors():
                response = self._http.request(method, self.url + path, json=json, params=wanted, headers=self._headers)
            self._check(response)
            return response

        try:
            return retry(
                attempt,
                what=f"{method} {self.shown_url}{path}",
                patience=self._patience,
                may_pass=lambda error: isinstance(error, _Busy),
                least_pause=lambda error: error.pause if isinstance(error, _Busy) else 0.0,
                sleep=self._sleep,
            )
        except _Busy as busy:
            raise busy.error from None

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come, however long it takes."""
        try:
            with (
                self._as_errors(),
                self._http.stream("GET", self.url + path, headers=self._headers, timeout=None) as response,
            ):
                if not response.is_success:
                    response.read()
                    self._check(response)
                yield response.iter_lines()
        except _Busy as busy:
            raise busy.error from None

    @contextmanager
    def _as_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            told = f"no service answers at {self.shown_url}: {first_line(error)}; is `clip-qdrant serve` running?"
            raise _Busy(ServiceError(told), 0.0) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = first_line(error) or type(error).__name__
            raise ServiceError(f"the service at {self.shown_url} did not answer: {told}") from error

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        error = read_problem(response) or self._wonder(response)
        after = response.headers.get("Retry-After", "")
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            pause = float(after) if _SECONDS.fullmatch(after) else 0.0
            raise _Busy(error, pause)
        raise error

    def _wonder(self, response: httpx.Response) -> errors.ClipQdrantError:
        kind = _BY_STATUS.get(response.status_code, ServiceError)
        answered = f"{response.status_code} {response.reason_phrase}".strip()
        return kind(f"{self.shown_url} answered {answered}, not as a service of clip-qdrant")


def read_problem(response: httpx.Response) -> errors.ClipQdrantError | None:
    """The error that a service tells of (RFC 9457); None if the answer is no problem."""
    try:
        problem = response.json()
    except ValueError:
        return None
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        return None
    name = str(problem.get("type", "")).removeprefix(_PREFIX)
    kind = getattr(errors, name) if name in errors.__all__ else _BY_STATUS.get(response.status_code, ServiceError)
    # Some make their message of parts, which a problem does not have.
    error: errors.ClipQdrantError = kind.__new__(kind)
    Exception.__init__(error, problem["detail"])
    for attribute in _ATTRIBUTES.get(name, ()):
        setattr(error, attribute, problem.get(attribute))
    return error


_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "FilterError": ("column", "unknown_field", "operand"),
    "MetadataError": ("field",),
    "MissingExtra": ("extra",),
}
