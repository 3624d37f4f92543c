"""A user of an embedded store in a process of its own: told which methods to call, and killed."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from forks import FORKS

from clip_qdrant.store.connect import connect

__all__ = ["StoreUser"]


@dataclass(frozen=True)
class StoreUser:
    """A process with a client that shares its store. Its calls are made when they are asked for."""

    process: ForkServerProcess
    channel: Connection

    @classmethod
    def start(cls, root: Path) -> StoreUser:
        channel, theirs = FORKS.Pipe()
        process = FORKS.Process(target=_use, args=(root, theirs), daemon=True)
        process.start()
        theirs.close()
        return cls(process, channel)

    def begin(self, name: str, *arguments: Any, times: int = 1) -> None:
        """Has it call a method, and does not wait for that."""
        self.channel.send((name, arguments, times))

    def result(self) -> Any:
        """What the last of the calls that were begun gave; raises what it raised."""
        kind, value = self.channel.recv()
        if kind == "error":
            raise value
        return value

    def call(self, name: str, *arguments: Any, times: int = 1) -> Any:
        self.begin(name, *arguments, times=times)
        return self.result()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.channel.close()

    def end(self) -> None:
        self.call("close")
        self.process.join()
        self.channel.close()


def _use(root: Path, channel: Connection) -> None:
    client, name = connect(root, shared=True), ""
    while name != "close":
        name, arguments, times = channel.recv()
        try:
            results = [getattr(client, name)(*arguments) for _ in range(times)]
        except Exception as error:  # noqa: BLE001  of whatever kind: it is looked at by the test
            channel.send(("error", error))
        else:
            channel.send(("result", results[-1]))
