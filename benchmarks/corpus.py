"""What becomes of every file in folders of images: loaded, refused for which reason, or worse.

    python benchmarks/corpus.py FOLDER... [--target 224] [--seconds 30] [--gigabytes 6] [--list]

Each file is loaded in a child process with bounded time and memory, so a crash or a hang is seen and the next file goes
on. Told are, beside the outcomes with their time and peak memory: exceptions that are no ImageError, what is printed on
stderr, and warnings. --list names every file that was not loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clip_qdrant.errors import ImageError
from clip_qdrant.images.load import load_image

LOADED, CRASHED, HUNG = "loaded", "crashed", "hung"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file; `megabytes` is its peak over what the process had before."""

    what: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    printed: str = ""
    warned: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument(
        "--target", type=int, default=224, help="short side in pixels that is needed; 0 for all there are"
    )
    parser.add_argument("--seconds", type=float, default=30, help="after which a file counts as hung")
    parser.add_argument("--gigabytes", type=float, default=6, help="of address space that a child may have")
    parser.add_argument("--list", action="store_true", help="name what was not loaded")
    options = parser.parse_args()
    paths = sorted(path for folder in options.folders for path in folder.rglob("*") if path.is_file())
    outcomes = dict(zip(paths, load_all(paths, options), strict=True))
    show(outcomes, list_all=options.list)
    sys.exit(any(outcome.what in (CRASHED, HUNG) or ":" in outcome.what for outcome in outcomes.values()))


def load_all(paths: list[Path], options: argparse.Namespace) -> Iterator[Outcome]:
    """The outcome of each file, by children that are replaced when they end or do not answer."""
    processes = multiprocessing.get_context("spawn")
    child, ours = None, None
    for path in paths:
        if child is None or ours is None:
            ours, theirs = processes.Pipe()
            child = processes.Process(target=serve, args=(theirs, options.target, options.gigabytes), daemon=True)
            child.start()
            theirs.close()
            ours.recv()  # it is ready; the time of its start is not that of a file
        start = time.perf_counter()
        ours.send(path)
        try:
            if ours.poll(options.seconds):
                yield ours.recv()
                continue
            child.kill()
            child.join()
            yield Outcome(HUNG, seconds=time.perf_counter() - start)
        except (EOFError, ConnectionError):
            child.join()
            yield Outcome(CRASHED, f"exit code {child.exitcode}", time.perf_counter() - start)
        child = None


def serve(pipe: Connection, target: int, gigabytes: float) -> None:
    """In a child: loads the files that the pipe names."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 1e9),) * 2)
    with tempfile.TemporaryFile() as stderr:
        os.dup2(stderr.fileno(), 2)  # what decoders print goes there, past sys.stderr
        pipe.send("ready")
        while True:
            path = pipe.recv()
            stderr.seek(0)
            stderr.truncate()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                what, detail, seconds, megabytes = load(path, target)
            stderr.seek(0)
            printed = stderr.read().decode(errors="replace").strip()
            pipe.send(Outcome(what, detail, seconds, megabytes, printed, "; ".join(str(one.message) for one in warned)))


def load(path: Path, target: int) -> tuple[str, str, float, float]:
    before = reset_peak()
    start = time.perf_counter()
    try:
        load_image(path, target=target or None)
        what, detail = LOADED, ""
    except ImageError as error:
        what, detail = error.reason, str(error)
    except Exception as error:  # noqa: BLE001  none is expected, and each is told
        what, detail = f"error: {type(error).__name__}", str(error)
    return what, detail, time.perf_counter() - start, read_status("VmHWM") - before


def reset_peak() -> float:
    """Starts the peak of this process anew; the megabytes it has now. 0 where the system does not tell."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return read_status("VmRSS")


def read_status(name: str) -> float:
    status = Path("/proc/self/status")
    match = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) / 1024 if match else 0.0


def show(outcomes: dict[Path, Outcome], *, list_all: bool) -> None:
    groups: dict[str, list[tuple[Path, Outcome]]] = defaultdict(list)
    for path, outcome in outcomes.items():
        groups[outcome.what].append((path, outcome))
    console = Console()
    table = Table("outcome", "files", "seconds, median", "most", "MB, most", "the slowest", "the largest")
    for what, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        slowest = max(group, key=lambda item: item[1].seconds)
        largest = max(group, key=lambda item: item[1].megabytes)
        seconds = sorted(outcome.seconds for _, outcome in group)
        figures = f"{seconds[len(seconds) // 2]:.3f}", f"{seconds[-1]:.2f}", f"{largest[1].megabytes:.0f}"
        table.add_row(what, str(len(group)), *figures, slowest[0].name, largest[0].name)
    console.print(table)
    printed = [(path, outcome.printed) for path, outcome in outcomes.items() if outcome.printed]
    warned = [(path, outcome.warned) for path, outcome in outcomes.items() if outcome.warned]
    console.print(f"{len(outcomes)} files; {len(printed)} with something on stderr, {len(warned)} with a warning")
    worse = [(path, one.what + " " + one.detail) for path, one in outcomes.items() if one.what in (CRASHED, HUNG)]
    refused = [(path, f"{one.what}: {one.detail}") for path, one in outcomes.items() if one.what != LOADED]
    for path, text in [*worse, *printed, *warned, *(refused if list_all else ())]:
        console.print(f"{path}: {text}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
