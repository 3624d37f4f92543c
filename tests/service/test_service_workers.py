"""Several processes answer at one port: one that dies is replaced, and all end with the first."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "answering_worker.py"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@contextlib.contextmanager
def workers(number: int, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def ask(port: int, what: bytes = b"who") -> tuple[int, int, int]:
    """Place, process and number of cores of the worker that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(what)
        place, pid, cores = connection.recv(100).split() or (b"-1", b"0", b"0")
    return int(place), int(pid), int(cores)


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


def find_all(port: int, number: int) -> dict[int, int]:
    """The processes, by place."""
    found: dict[int, int] = {}

    def look() -> bool:
        place, pid, _ = ask(port)
        found[place] = pid
        return len(found) == number

    eventually(look)
    return found


def test_a_worker_that_dies_is_replaced_and_all_end_in_order() -> None:
    with workers(2) as (process, port):
        first = find_all(port, 2)
        assert ask(port)[2] == max(1, len(os.sched_getaffinity(0)) // 2 if hasattr(os, "sched_getaffinity") else 1)
        ask(port, b"die")
        eventually(lambda: len(set(find_all(port, 2).values()) - set(first.values())) == 1)
        running = find_all(port, 2).values()
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0
        assert not any(is_alive(pid) for pid in running)


def test_workers_end_when_the_first_process_is_killed() -> None:
    with workers(1) as (process, port):
        pid = find_all(port, 1)[0]
        process.kill()
        process.wait()

        eventually(lambda: not is_alive(pid))


def test_workers_that_die_again_and_again_are_given_up() -> None:
    with workers(2, WORKER_DIES="yes") as (process, _port):
        assert process.stderr is not None
        assert process.wait(60) == 1
        assert "workers ended 5 times within a minute, the last with the code 3" in process.stderr.read()
