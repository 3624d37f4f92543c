"""A computer of a user: processes with an empty home, and what they ask other computers for.

A library of ours that is loaded before all others tells which names they look up, also those that native code asks for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Computer", "make_computer"]

SOURCE = Path(__file__).parent / "addresses.c"
# What is set here and would not be set on a computer of a user: CI among them.
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "LANG")


@dataclass(frozen=True)
class Computer:
    """A home that was empty, and the names and addresses that processes in it asked for."""

    home: Path
    work: Path
    asked: Path
    library: Path | None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name in KEPT}
        environment |= {"HOME": str(self.home), "ASKED_ADDRESSES": str(self.asked), "CLIP_QDRANT_RUNTIME": "onnx"}
        if self.library is not None:
            environment["LD_PRELOAD"] = str(self.library)
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> None:
        process = self.start(*arguments)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output

    def files(self) -> list[str]:
        """All in the home but our own cache, and matplotlib's list of the fonts there are."""
        found = [str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()]
        return sorted(name for name in found if not name.startswith((".cache/clip-qdrant/", ".cache/matplotlib/")))


def build_library(folder: Path) -> Path | None:
    """The library that tells what is asked for, where there is a C compiler to build it and a loader to load it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "addresses.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def make_computer(folder: Path) -> Computer:
    for name in ("home", "work"):
        (folder / name).mkdir()
    (folder / "asked").touch()
    return Computer(folder / "home", folder / "work", folder / "asked", build_library(folder))
