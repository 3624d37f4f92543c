"""Ports for tests that need one before anything listens there, or one where nothing does."""

from __future__ import annotations

import random
import socket

__all__ = ["unused_port"]

_draw = random.SystemRandom()


def unused_port() -> int:
    """A port of this machine that nobody has, and that no program gets which asks for any: those are above 32768.

    A port that was bound to 0 and closed again may be given to another test that runs at the same time.
    """
    while True:
        port = _draw.randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
