"""A worker that answers with the id of its process; "die" makes it end. Run as a program it starts several.

python tests/support/answering_worker.py NUMBER
"""

from __future__ import annotations

import os
import socket
import sys

from clip_qdrant.service.workers import run_workers

__all__ = ["answer"]


def answer(place: int, listener: socket.socket) -> None:
    if place < 0 or os.environ.get("WORKER_DIES"):
        sys.exit(3)
    while True:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(10) == b"die":
                os._exit(9)
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            connection.sendall(f"{place} {os.getpid()} {cores}".encode())


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        run_workers(answer, int(sys.argv[1]), server)
