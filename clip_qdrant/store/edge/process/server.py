"""Answers for a store: whoever knows the token may call the methods of its EdgeClient."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_qdrant.errors import StoreLocked
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.address import StoreAddress, connect_to, listen, versions
from clip_qdrant.store.edge.process.channel import StoreChannel, admit
from clip_qdrant.store.edge.process.messages import GONE, LEAVE, answer_call

__all__ = ["StoreServer"]

# A program that opened the store by itself, such as a search from the command line, is done in a moment.
_PATIENCE_WITH_OTHERS = 5.0  # seconds
_PAUSE = 0.05  # seconds


class StoreServer:
    """Answers in threads of its own, one for each channel of a user. Whoever makes one holds the lock of the address.

    `client` is what all users share. `is_process` says that the process ends with the last of its users.
    """

    def __init__(self, client: EdgeClient, root: Path, *, is_process: bool, by_port: bool = False) -> None:
        self._client, self._root, self._is_process = client, root, is_process
        self._token = secrets.token_bytes(32)
        self._channels: dict[bytes, dict[StoreChannel, threading.Lock]] = {}  # by user; a lock is held during a call
        self._change = threading.Condition()
        self._ending = False
        self._closed = threading.Event()
        if (before := StoreAddress.read(root)) is not None:  # of one that was killed
            before.remove(root)
        self._listener, path, port = listen(by_port=by_port)
        self._address = StoreAddress(path, port, self._token.hex(), os.getpid(), socket.gethostname(), versions())
        threading.Thread(target=self._accept, name="users of the store", daemon=True).start()
        self._address.write(root)

    def wait_until_unused(self, first_within: float) -> None:
        """Returns once the last user has gone, or if nobody comes in so many seconds. Nobody is let in any more."""
        with self._change:
            self._change.wait_for(lambda: bool(self._channels), timeout=first_within)
            self._change.wait_for(lambda: not self._channels)
            self._ending = True

    def close(self) -> None:
        """Lets nobody in any more, finishes the calls in hand, and tells all users that the next goes elsewhere.

        Then closes the client.
        """
        with self._change:
            self._ending = True
            left = [pair for of_user in self._channels.values() for pair in of_user.items()]
        self._wake()
        self._address.remove(self._root)
        for channel, busy in left:
            with busy, contextlib.suppress(OSError):
                channel.send(GONE)
                channel.end()
        self._client.close()
        self._closed.set()

    def _wake(self) -> None:
        """Has `_accept` look at whether it is to end."""
        if (connection := connect_to(self._address)) is not None:
            connection.close()

    def _accept(self) -> None:
        with self._listener as listener:
            while not self._ending:
                try:
                    connection, _ = listener.accept()
                except OSError:  # too many files are open, or who came has gone
                    time.sleep(_PAUSE)
                    continue
                user = threading.Thread(target=self._serve, args=(connection,), name="user of the store", daemon=True)
                try:
                    user.start()
                except RuntimeError:  # too many threads run: who came tries again, and those who are there go on
                    connection.close()
                    time.sleep(_PAUSE)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                channel = admit(connection, self._token)
            except OSError:
                return
            busy = threading.Lock()
            with self._change:
                if self._ending:
                    with contextlib.suppress(OSError):
                        channel.send(GONE)
                    return
                self._channels.setdefault(channel.user, {})[channel] = busy
                self._change.notify_all()
            with contextlib.suppress(OSError):
                self._answer(channel, busy)
            with self._change:
                of_user = self._channels.get(channel.user, {})
                of_user.pop(channel, None)
                if not of_user:
                    self._channels.pop(channel.user, None)
                self._change.notify_all()

    def _answer(self, channel: StoreChannel, busy: threading.Lock) -> None:
        """Until the user leaves, or is gone (OSError)."""
        while (message := channel.receive()) != LEAVE:
            with busy:
                if self._ending:
                    channel.send(GONE)
                    return
                answer_call(channel, message, self._run)
            del message
        with self._change:
            for other in self._channels.pop(channel.user, {}):
                if other is not channel:
                    other.end()
            is_last = not self._channels
            self._change.notify_all()
        if is_last and self._is_process:
            self._closed.wait()  # a user that has closed its client may open the store by itself at once

    def _run(self, name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        give_up = time.monotonic() + _PATIENCE_WITH_OTHERS
        while True:
            try:
                return getattr(self._client, name)(*arguments, **options)
            except StoreLocked:
                if self._ending or time.monotonic() > give_up:
                    raise
            time.sleep(_PAUSE)
