"""store.call turns what goes wrong in any client into errors of this package."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import QdrantClient, models
from small_server import Answer, SmallServer, ok, refusal

from clip_qdrant.errors import (
    CollectionExists,
    CollectionNotFound,
    FilterError,
    InvalidPoint,
    PointNotFound,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    UnsupportedByEdge,
)
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient

PARAMS = models.VectorParams(size=2, distance=models.Distance.COSINE)


def raising(error: BaseException) -> Any:
    def operation() -> None:
        raise error

    return operation


@pytest.mark.parametrize("words", ["Forbidden: Global access is required", "Write access to collection c is required"])
def test_a_key_with_too_few_rights_is_not_told_to_be_set(words: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        ask(refusal(403, words))
    assert words in str(caught.value)
    assert "CLIP_QDRANT_API_KEY" not in str(caught.value)


def ask(answer: Answer) -> None:
    with SmallServer(lambda _: answer).running() as server:
        client = connect(server.url)
        try:
            call(lambda: client.count("photos"), what="count photos", patience=0.05)
        finally:
            client.close()


def test_the_result_comes_back() -> None:
    assert call(lambda: 7, what="nothing") == 7


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refusal(404, "Not found: Collection `photos` doesn't exist!"), CollectionNotFound, "`photos` doesn't exist"),
        (refusal(409, "Wrong input: Collection `photos` already exists!"), CollectionExists, "already exists"),
        (refusal(400, "Wrong input: Collection `photos` already exists!"), CollectionExists, "already exists"),
        (refusal(404, "Not found: No point with id 5 found"), PointNotFound, "No point with id 5"),
        (refusal(400, "Wrong input: Vector dimension error"), StoreError, "Vector dimension error"),
        (
            refusal(401, "Must provide an API key or an Authorization token"),
            StoreUnavailable,
            "set CLIP_QDRANT_API",
        ),
        (
            refusal(401, "Invalid API key or JWT"),
            StoreUnavailable,
            "refused the API key .*that the server knows",
        ),
        (
            refusal(403, "Forbidden: Global write access is required"),
            StoreUnavailable,
            "it may only read, or is for oth",
        ),
        ((404, b"<html>nothing here</html>", {}), StoreUnavailable, "no Qdrant server .*is the address right"),
        ((200, b"<html>hello</html>", {}), StoreError, "is not one of Qdrant"),
        (ok({"count": "many"}), StoreError, "does not fit this version of qdrant-client"),
    ],
)
def test_answers_of_a_server_become_our_errors(answer: Answer, kind: type[StoreError], words: str) -> None:
    with pytest.raises(StoreError, match=rf"(?s)count photos: .*{words}") as caught:
        ask(answer)

    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [
        StoreError("x"),
        StoreLocked("x"),
        CollectionNotFound("x"),
        InvalidPoint("x"),
        UnsupportedByEdge("x"),
        FilterError("x"),
        KeyboardInterrupt(),
        TypeError("a mistake in the program"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_errors_and_mistakes_in_the_program_pass_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        call(raising(error), what="try")

    assert caught.value is error


def test_errors_of_the_embedded_client_are_not_tried_again(edge_client: EdgeClient) -> None:
    tries = 0

    def count() -> None:
        nonlocal tries
        tries += 1
        edge_client.count("photos")

    with pytest.raises(CollectionNotFound, match="collections here: none yet"):
        call(count, what="count")
    assert tries == 1


def test_errors_of_the_in_memory_client_become_ours() -> None:
    client = QdrantClient(":memory:")
    with pytest.raises(CollectionNotFound, match="count: Collection photos not found"):
        call(lambda: client.count("photos"), what="count")
    client.create_collection("photos", vectors_config=PARAMS)
    with pytest.raises(CollectionExists):
        call(lambda: client.create_collection("photos", vectors_config=PARAMS), what="create")
    with pytest.raises(PointNotFound, match="there is no point 5"):
        call(lambda: client.set_payload("photos", {}, points=[5]), what="set payload")
    client.close()
    with pytest.raises(StoreError, match="is closed"):
        call(lambda: client.count("photos"), what="count")


class Failure(grpc.RpcError):
    """What a gRPC channel raises: an RpcError that knows its code."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "kind", "tries"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", StoreUnavailable, 2),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "too late", StoreUnavailable, 2),
        (grpc.StatusCode.UNAUTHENTICATED, "no key", StoreUnavailable, 1),
        (grpc.StatusCode.NOT_FOUND, "Not found: Collection `c` doesn't exist!", CollectionNotFound, 1),
        (grpc.StatusCode.ALREADY_EXISTS, "Collection `c` already exists!", CollectionExists, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, "Wrong input", StoreError, 1),
    ],
)
def test_errors_of_grpc_become_ours(code: grpc.StatusCode, details: str, kind: type[StoreError], tries: int) -> None:
    count = 0

    def operation() -> None:
        nonlocal count
        count += 1
        raise Failure(code, details)

    with pytest.raises(StoreError, match=details) as caught:
        call(operation, what="try", patience=0.25)
    assert type(caught.value) is kind
    assert count == tries


def test_an_error_without_details_is_told_by_its_type() -> None:
    with pytest.raises(StoreUnavailable, match="ConnectError"):
        call(raising(httpx.ConnectError("")), what="try", patience=0.01)


def test_an_error_of_the_file_system_becomes_ours() -> None:
    with pytest.raises(StoreError, match=r"write: .*No space left on device") as caught:
        call(raising(OSError(28, "No space left on device")), what="write")
    assert type(caught.value) is StoreError
