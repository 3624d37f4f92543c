"""What users and the process of a store say to each other: calls, answers and errors, as pickles.

A call may bring a function, to which progress is told, or a stream of points. They stay with the user, who is asked
for the next points, or told, before the answer comes.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from pydantic import BaseModel

from clip_qdrant.errors import ClipQdrantError, StoreError
from clip_qdrant.store.edge.process.channel import StoreChannel

__all__ = ["GONE", "LEAVE", "answer_call", "make_call", "send_call"]

LEAVE = b"leave"  # a user's last message
GONE = b"gone"  # whoever had the store open leaves: the call that was sent, if any, was not begun
_STREAMED = 256  # points
# What is sent as it is, though it can be iterated.
_WHOLE = (str, bytes, bytearray, Sequence, Mapping, set, frozenset, np.ndarray, np.generic, BaseModel)


@dataclass(frozen=True, slots=True)
class RemoteFunction:
    """Stands in a call for a function of the user."""

    number: int


@dataclass(frozen=True, slots=True)
class RemoteStream:
    """Stands in a call for an iterator of the user."""

    number: int


@dataclass(frozen=True, slots=True)
class StoreCall:
    """A call as it is sent, and the functions that the user is asked to run meanwhile, which give packed answers."""

    name: str
    message: bytes
    functions: list[Callable[..., bytes]]


def make_call(name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> StoreCall:
    """Raises StoreError if an argument cannot be sent."""
    functions: list[Callable[..., bytes]] = []

    def replace(value: Any) -> Any:
        if isinstance(value, type) or not (callable(value) or isinstance(value, Iterable)) or isinstance(value, _WHOLE):
            return value
        number = len(functions)
        if callable(value):
            functions.append(lambda *values: _pack_result(value(*values)))
            return RemoteFunction(number)
        iterator = iter(value)
        functions.append(lambda: _pack_answer(list(islice(iterator, _STREAMED))))
        return RemoteStream(number)

    said = (name, [replace(one) for one in arguments], {key: replace(one) for key, one in options.items()})
    try:
        return StoreCall(name, pickle.dumps(said, pickle.HIGHEST_PROTOCOL), functions)
    except Exception as error:
        raise StoreError(f"{name}: what it was given cannot be sent to the process of the store ({error})") from error


def send_call(channel: StoreChannel, call: StoreCall) -> tuple[Any, Exception | None] | None:
    """The answer to a call, or the error that it ended with; None if it was not begun: somebody else may be asked.

    Raises OSError if the other side ended meanwhile.
    """
    try:
        channel.send(call.message)
    except OSError:
        return None
    failure: Exception | None = None
    while True:
        message = channel.receive()
        if message == GONE:
            return None
        kind, *said = pickle.loads(message)  # noqa: S301  both sides know the token
        if kind == "answer":
            return said[0], None
        if kind == "error":
            return None, failure or _make_error(*said)
        if kind == "raise":
            return None, failure or said[0]
        number, arguments = said
        try:
            packed = call.functions[number](*arguments)
        except Exception as error:  # noqa: BLE001  of the user's own function: raised once the other side has ended
            failure, packed = error, pickle.dumps(("failed",))
        channel.send(packed)


def answer_call(
    channel: StoreChannel, message: bytearray, run: Callable[[str, Sequence[Any], Mapping[str, Any]], Any]
) -> None:
    """Runs the call that a user sent, and sends what came of it. Raises OSError if the user is gone."""
    try:
        name, arguments, options = _restore(channel, pickle.loads(message))  # noqa: S301
        packed = _pack_answer(run(name, arguments, options))
    except BaseException as error:  # a panic of the engine derives from no Exception
        if isinstance(error, _UserGone):
            raise ConnectionResetError("the user has ended") from error
        packed = _pack_error(error)
    channel.send(packed)


class _UserGone(BaseException):
    """The user ended while it was asked: no code between here and there shall take it for an error of its own."""


class _UserFailed(Exception):
    """The function of the user raised an error."""


def _restore(channel: StoreChannel, said: Any) -> tuple[str, list[Any], dict[str, Any]]:
    name, arguments, options = said
    lock = threading.Lock()  # a method may tell of its progress from a thread of its own

    def ask(number: int, *values: Any) -> Any:
        with lock:
            try:
                channel.send(pickle.dumps(("ask", number, values), pickle.HIGHEST_PROTOCOL))
                kind, *answer = pickle.loads(channel.receive())  # noqa: S301
            except OSError as error:
                raise _UserGone from error
        if kind == "failed":
            raise _UserFailed("a function of the user failed")
        return answer[0]

    def stream(number: int) -> Iterator[Any]:
        while some := ask(number):
            yield from some

    def restore(value: Any) -> Any:
        if isinstance(value, RemoteFunction):
            return lambda *values: ask(value.number, *values)
        return stream(value.number) if isinstance(value, RemoteStream) else value

    return name, [restore(one) for one in arguments], {key: restore(one) for key, one in options.items()}


def _pack_answer(answer: Any) -> bytes:
    return pickle.dumps(("answer", answer), pickle.HIGHEST_PROTOCOL)


def _pack_result(result: Any) -> bytes:
    """What a function of the user returned: None if it cannot be sent, as nobody asked what drew a bar for its bar."""
    try:
        return _pack_answer(result)
    except Exception:  # noqa: BLE001  an object may refuse in any way
        return _pack_answer(None)


def _pack_error(error: BaseException) -> bytes:
    kind = type(error)
    if isinstance(error, ClipQdrantError):
        return pickle.dumps(("error", kind, error.args, vars(error)))
    try:  # those of other libraries, if they can be made again as they were
        packed = pickle.dumps(("raise", error))
        again = pickle.loads(packed)[1]  # noqa: S301  our own
        if isinstance(error, Exception) and type(again) is kind and str(again) == str(error):
            return packed
    except Exception:  # noqa: BLE001, S110  it may hold anything
        pass
    base = next(one for one in kind.__mro__ if one.__module__ == "builtins")
    return pickle.dumps(("error", base if issubclass(base, Exception) else StoreError, (str(error),), {}))


def _make_error(kind: type[Exception], arguments: tuple[Any, ...], attributes: Mapping[str, Any]) -> Exception:
    """The error as it was, without its __init__: that may want other things, and makes a message of them."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error
