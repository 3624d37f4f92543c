"""The client: it waits while the service is busy, tells what is wrong by the errors of the library, and sends a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant import errors
from clip_qdrant.collection.hits import Hits
from clip_qdrant.service import Client
from clip_qdrant.service.problems import answer_error

FOUND = {"hits": [], "reason": "nothing there"}
Answer = httpx.Response | Exception


class Service:
    """Gives some answers, one after the other, and then FOUND; keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = [*answers]
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []  # what the client would have slept

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else httpx.Response(200, json=FOUND)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def client(self) -> Client:
        return self.make_client()

    def make_client(self, *, patience: float = 30.0) -> Client:
        http = httpx.Client(transport=httpx.MockTransport(self))
        client = Client("http://photos.test/", http=http, api_key="s3cret", patience=patience)
        client._transport._sleep = self.pauses.append
        return client


def problem(error: Exception) -> httpx.Response:
    answer = answer_error(error, "id")
    return httpx.Response(answer.status_code, content=answer.body, headers=dict(answer.headers))


def test_a_busy_service_is_asked_again_when_it_says_so() -> None:
    service = Service(problem(errors.Overloaded("full", retry_after=7)), problem(errors.StoreUnavailable("away")))

    assert service.client.search("red") == Hits()

    assert len(service.requests) == 3
    assert service.pauses[0] == pytest.approx(7, abs=0.5)
    assert 1 <= service.pauses[1] < 2


def test_it_gives_up_when_its_patience_is_over() -> None:
    service = Service(problem(errors.Overloaded("all threads are busy", retry_after=40)))

    with pytest.raises(errors.Overloaded, match="all threads are busy"):
        service.client.search("red")

    assert (len(service.requests), service.pauses) == (1, [])


def test_a_service_that_is_not_there_yet_is_waited_for() -> None:
    service = Service(httpx.ConnectError("refused"))

    assert service.client.search("red").reason == "nothing there"
    assert len(service.pauses) == 1

    service.answers = [httpx.ReadError("reset")]
    with pytest.raises(errors.ServiceError, match="reset"):  # what was asked may have been done
        service.client.search("red")


def test_no_service_is_told_with_its_address() -> None:
    with (
        Client("http://127.0.0.1:9/", patience=0) as client,
        pytest.raises(errors.ServiceError, match=r"127\.0\.0\.1:9.*clip-qdrant serve"),
    ):
        client.search("red")
    with Client("nonsense", patience=0) as client, pytest.raises(errors.ServiceError, match="nonsense"):
        client.search("red")


def make_error(name: str) -> errors.ClipQdrantError:
    kind = getattr(errors, name)
    parts = ("s3fs", "s3", "reading buckets") if kind is errors.MissingExtra else ("what is wrong with https://host/",)
    error: errors.ClipQdrantError = kind(*parts)
    return error


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_of_the_library_comes_back_as_itself(name: str) -> None:
    error = make_error(name)

    with pytest.raises(type(error)) as told:
        Service(problem(error)).make_client(patience=0).search("red")

    assert type(told.value) is type(error)
    assert str(told.value) == str(error)


def test_what_another_program_answers_is_told_by_its_status() -> None:
    for status, kind in ((401, errors.Unauthorized), (404, errors.NotServed), (502, errors.ServiceError)):
        service = Service(httpx.Response(status, text="<html>"))
        with pytest.raises(kind, match=f"photos.test answered {status}"):
            service.client.search("red")
    for answer in (httpx.Response(200, text="<html>"), httpx.Response(302, headers={"Location": "/login"})):
        with pytest.raises(errors.ServiceError, match="not as a service of clip-qdrant"):
            Service(answer).client.search("red")


def test_the_key_is_sent_and_shown_nowhere() -> None:
    service = Service()
    client = service.client
    client.search("red")

    assert service.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(client)
    assert "word" not in repr(Client("http://me:word@host"))


def test_a_request_says_only_what_is_not_usual() -> None:
    service = Service()
    service.client.search([1.0, np.float32(2)], where={"year": np.int64(3)}, limit=10, payload=["album"])

    assert json.loads(service.requests[0].content) == {
        "query": [{"vector": [1.0, 2.0]}],
        "where": {"year": 3},
        "payload": ["album"],
    }


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda client: client.search("red", where=models.Filter()), errors.FilterError),
        (lambda client: client.search("red", limit=0), errors.QueryError),
        (lambda client: client.search(""), errors.QueryError),
        (lambda client: client.search_batch("red"), errors.QueryError),
        (lambda client: client.recommend([None]), errors.QueryError),
        (lambda client: client.discover("red", ["blue"]), errors.QueryError),
        (lambda client: client.search(b""), errors.EmptyImage),
    ],
)
def test_what_cannot_be_sent_is_refused_here(ask: Callable[[Any], Any], kind: type[Exception]) -> None:
    service = Service()
    with pytest.raises(kind):
        ask(service.client)
    assert service.requests == []
