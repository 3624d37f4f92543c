"""Joins whoever answers for a store, or starts a process that does."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

from clip_qdrant.errors import StoreLocked, StoreUnavailable
from clip_qdrant.store.edge.files.lock import FileLock
from clip_qdrant.store.edge.process.address import StoreAddress, connect_to, is_answered, make_folder, versions
from clip_qdrant.store.edge.process.channel import StoreChannel, introduce

__all__ = ["join_or_start"]

# One that ends flushes first, and the next waits for it; on a busy machine a start alone takes some seconds.
_PATIENCE = 60.0  # seconds
_PATIENCE_OUT_OF_REACH = 3.0  # seconds that an address may be out of date: the lock is taken a moment before
_PAUSE = 0.01  # seconds
_APART = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows


def join_or_start(root: Path, user: bytes) -> StoreChannel:
    """A channel to whoever answers for a store. Of several users that come at once one starts the process.

    Raises StoreUnavailable if the process does not start, does not answer, or has other versions of the code;
    StoreLocked if there is one, and its socket is out of reach.
    """
    channel = _join(root, user)
    if channel is not None:
        return channel
    try:
        folder = make_folder(root)
        held = FileLock(folder / "start.lock", wait=True)
    except OSError as error:
        raise StoreUnavailable(f"cannot start the process of the store {root}: {error}") from error
    child, log, begin = None, folder / f"{secrets.token_hex(4)}.log", time.monotonic()
    give_up, out_of_reach = begin + _PATIENCE, begin + _PATIENCE_OUT_OF_REACH
    try:
        while (channel := _join(root, user)) is None:
            if child is None and is_answered(root):
                if time.monotonic() > out_of_reach:
                    raise StoreLocked(_out_of_reach(root))
            elif child is None:
                child = _start(root, log)
            elif child.poll() is not None:
                raise StoreUnavailable(f"the process of the store {root} did not start: {_last_words(log)}")
            elif time.monotonic() > give_up:
                raise StoreUnavailable(
                    f"the process of the store {root} (pid {child.pid}) did not start within {_PATIENCE:.0f} s"
                )
            time.sleep(_PAUSE)
        return channel
    finally:
        held.unlock()


def _join(root: Path, user: bytes) -> StoreChannel | None:
    """None if nobody answers."""
    address = StoreAddress.read(root)
    connection = connect_to(address) if address is not None else None
    if address is None or connection is None:
        return None
    try:
        _check_versions(root, address)
        return introduce(connection, bytes.fromhex(address.token), user)
    except TimeoutError as error:
        connection.close()
        raise StoreUnavailable(
            f"the process {address.pid} that has the store {root} open does not answer; if it hangs, end it"
        ) from error
    except OSError:  # it ended, or another program has its port by now
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise


def _out_of_reach(root: Path) -> str:
    address = StoreAddress.read(root)
    whose = f"process {address.pid} of {address.host}" if address is not None else "a process of another user"
    return (
        f"the store {root} is open in {whose}, and its socket is out of reach: it runs on another computer, in another "
        "container, or has temporary files of its own (PrivateTmp=yes of systemd); run both in one place, or let them "
        "share a Qdrant server (docker compose up -d qdrant)"
    )


def _check_versions(root: Path, address: StoreAddress) -> None:
    if address.code != versions():
        raise StoreUnavailable(
            f"the process {address.pid} that has the store {root} open runs {_name(address.code)}, and this one "
            f"{_name(versions())}; end the programs that use the store, and start them with the same version"
        )


def _start(root: Path, log: Path) -> subprocess.Popen[bytes]:
    # As multiprocessing does, so that the code is found which runs here.
    path = os.pathsep.join(os.path.abspath(one) for one in sys.path)  # noqa: PTH100
    command = [sys.executable, "-m", __package__ or "", str(root), str(log)]
    with open(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as errors:  # noqa: PTH123  a path has no mode
        child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=root.anchor,  # so that it holds no folder of the user's
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # apart from the signals of a terminal, on POSIX and elsewhere
            creationflags=_APART,
        )
    # It ends after this program, or before it: then somebody has to ask the system for its end.
    threading.Thread(target=child.wait, name="process of the store", daemon=True).start()
    return child


def _last_words(log: Path) -> str:
    with contextlib.suppress(OSError):
        if lines := log.read_text(encoding="utf-8", errors="replace").strip().splitlines():
            return f"{lines[-1]} (all of it is in {log})"
    return "it said nothing"


def _name(code: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in code.items())
