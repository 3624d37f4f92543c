"""run_workers: one port, several processes, each with a model of its own: for several GPUs, or many cores.

All accept the connections of one socket, so a client has one address. A worker that dies is started anew; all end when
the first process does, in order if it is told to (SIGTERM, Ctrl-C), and also if it is killed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

from clip_qdrant.errors import ServiceError

__all__ = ["run_workers"]

logger = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
_MOST_DEATHS, _IN_SECONDS = 5, 60.0  # of workers, before it is given up: what ends them does so again

Work = Callable[[int, socket.socket], None]


def run_workers(work: Work, number: int, listener: socket.socket) -> None:
    """Runs `work(place, listener)`, with places from 0, in so many processes, until this one is told to end.

    `work` has to be picklable, and ends when its process gets SIGTERM. Each process gets its share of the cores.
    Raises ServiceError if workers die again and again.
    """
    stopping = threading.Event()
    told = {one: signal.signal(one, lambda *_: stopping.set()) for one in (signal.SIGTERM, signal.SIGINT)}
    workers = {place: _start(work, place, number, listener) for place in range(number)}
    deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
    try:
        while not stopping.is_set():
            connection.wait([worker.sentinel for worker in workers.values()], timeout=0.2)
            for place, worker in workers.items():
                if worker.is_alive() or stopping.is_set():
                    continue
                deaths.append(time.monotonic())
                if len(deaths) == _MOST_DEATHS and deaths[-1] - deaths[0] < _IN_SECONDS:
                    raise ServiceError(
                        f"workers ended {_MOST_DEATHS} times within a minute, the last with the code "
                        f"{worker.exitcode}: the log says why; try it with one"
                    )
                logger.warning("worker %d ended with the code %s: starting another", place, worker.exitcode)
                workers[place] = _start(work, place, number, listener)
    finally:
        stopping.clear()
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            while worker.is_alive():
                worker.join(0.2)
                if stopping.is_set():  # told so again
                    worker.kill()
        for one, handler in told.items():
            signal.signal(one, handler)


def _start(work: Work, place: int, number: int, listener: socket.socket) -> SpawnProcess:
    worker = _SPAWN.Process(target=_work, args=(work, place, number, listener), name=f"worker-{place}")
    worker.start()
    return worker


def _work(work: Work, place: int, number: int, listener: socket.socket) -> None:
    """In a process of its own."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the first process alone, which tells this one to end
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= number:
            os.sched_setaffinity(0, cores[place * len(cores) // number : (place + 1) * len(cores) // number])
    threading.Thread(target=_end_with_first, daemon=True).start()
    work(place, listener)


def _end_with_first() -> None:
    first = multiprocessing.parent_process()
    assert first is not None, "a worker is a process of another"
    first.join()
    os.kill(os.getpid(), signal.SIGTERM)
