"""The side of a user: channels to whoever answers for a store, and another one where that has ended."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_qdrant.errors import StoreError, StoreUnavailable
from clip_qdrant.store.edge.process.channel import StoreChannel, new_user
from clip_qdrant.store.edge.process.messages import LEAVE, make_call, send_call
from clip_qdrant.store.edge.process.start import join_or_start

__all__ = ["StoreLink"]

_KEPT = 16  # channels that wait for a call
_TRIES = 5  # each with a process that ended before it began the call


class StoreLink:
    """Calls of one user, each over a channel of its own: as many at once as there are threads.

    One more channel carries no calls: it stands for the user, also while none of its calls is under way, or one was
    interrupted and its channel closed. A forked child is another user, and leaves the channels of its parent alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._closed = False
        self._begin()
        _links.add(self)

    def _begin(self) -> None:
        self._user = new_user()
        self._mutex = threading.Lock()
        self._generation = 0  # how many processes have ended
        self._presence: StoreChannel | None = None
        self._idle: list[StoreChannel] = []

    def call(self, name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The answer to a call. Raises what it raises there, and StoreUnavailable if the process ended meanwhile."""
        call = make_call(name, arguments, options)
        for _ in range(_TRIES):
            channel, generation = self._take()
            try:
                outcome = send_call(channel, call)
            except OSError as error:
                self._forget(channel, generation)
                if self._closed:  # by another thread: whoever answers ends the calls of a user that leaves
                    raise StoreError(f"{name}: the embedded store {self.root} was closed meanwhile") from error
                raise StoreUnavailable(
                    f"{name}: the process of the store {self.root} ended meanwhile; what it had acknowledged is "
                    "stored, and the next call starts another: run it again",
                    transient=True,
                ) from error
            except BaseException:  # interrupted: what comes over this channel now is the answer to this call
                channel.close()
                raise
            if outcome is None:
                self._forget(channel, generation)
                continue
            self._put_back(channel, generation)
            answer, failure = outcome
            if failure is not None:
                raise failure
            return answer
        raise StoreUnavailable(f"{name}: the process of the store {self.root} ended {_TRIES} times", transient=True)

    def close(self) -> None:
        """Returns once the process has closed the store, if this was its last user."""
        with self._mutex:
            self._closed = True
            presence, idle, self._presence, self._idle = self._presence, self._idle, None, []
        for channel in idle:
            channel.close()
        if presence is not None:
            with contextlib.suppress(OSError):
                presence.send(LEAVE)
                presence.receive()
            presence.close()

    def _take(self) -> tuple[StoreChannel, int]:
        with self._mutex:
            if self._closed:
                raise StoreError(f"the embedded store {self.root} is closed; make a new client")
            if self._idle:
                return self._idle.pop(), self._generation
            if self._presence is None:
                self._presence = join_or_start(self.root, self._user)
            return join_or_start(self.root, self._user), self._generation

    def _put_back(self, channel: StoreChannel, generation: int) -> None:
        with self._mutex:
            if not self._closed and generation == self._generation and len(self._idle) < _KEPT:
                self._idle.append(channel)
                return
        channel.close()

    def _forget(self, channel: StoreChannel, generation: int) -> None:
        """The other side of a channel has ended, and so have those of all others that were opened by then."""
        channel.close()
        with self._mutex:
            if generation != self._generation:
                return
            self._generation += 1
            ended, self._idle, self._presence = [*self._idle, self._presence], [], None
        for one in ended:
            if one is not None:
                one.close()

    def begin_anew(self) -> None:
        """In a forked child: the channels are its parent's, who alone may speak over them."""
        for channel in (self._presence, *self._idle):
            if channel is not None:
                channel.close()
        self._begin()


_links: weakref.WeakSet[StoreLink] = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
