"""The log of a run, a row per event, and its curves: what a run leaves to read, and what a resumed one goes on with."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from pathlib import Path
from typing import Any, BinaryIO

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.output.curves import draw_curves, need_matplotlib
from clip_qdrant_training.output.files import replace_file
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, as_row

__all__ = ["RunLog", "read_log"]

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
CURVES = "curves.png"

_DRAWING = 0.05  # the share of a run that drawing its curves may take: epochs on ready features last a second


class RunLog:
    """Keeps `log.jsonl`, a row per event, and `curves.png`, redrawn after an epoch, in the folder of a run.

    A row is {"kind": "start" | "step" | "epoch" | "end", "time": unix seconds, "step": n} and the fields of its report;
    a number that is none is null. `every` thins the rows of steps. Where a run resumes, the rows beyond the step it
    resumes from are cut off; a run from step 0 begins a new log. Raises TrainingError if the folder cannot be written.
    """

    def __init__(self, folder: str | Path, *, every: int = 1, curves: bool = True) -> None:
        if every < 1:
            raise ConfigError(f"every is {every}: log every step (1), or every so many")
        if curves:
            need_matplotlib()
        self.folder = Path(folder)
        self._every = every
        self._curves = curves
        self._undrawn = False
        self._drawn_at, self._drawing = -math.inf, 0.0
        self._step = 0
        self._file: BinaryIO | None = None

    def started(self, run: RunStart) -> None:
        path = self.folder / LOG
        kept = [line for line, row in _lines(path) if row.get("step", 0) <= run.step] if run.step else []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, b"".join(line + b"\n" for line in kept))
            self._file = path.open("ab")
        except OSError as error:
            raise self._unwritable(error) from error
        self._step = run.step
        self._write("start", run)

    def stepped(self, report: StepReport) -> None:
        self._step = report.step
        if report.step % self._every == 0 or report.step == report.steps:
            self._write("step", report)
            self._undrawn = True

    def epoch_ended(self, report: EpochReport) -> None:
        self._write("epoch", report)
        self._undrawn = True
        if (time.monotonic() - self._drawn_at) * _DRAWING >= self._drawing:
            self._draw()

    def ended(self) -> None:
        if self._file is None:  # never started, or its disk is full
            return
        self._write("end")
        self._file.close()
        self._file = None
        if self._undrawn:
            self._draw()

    def _write(self, kind: str, report: RunStart | StepReport | EpochReport | None = None) -> None:
        assert self._file is not None, "started() comes first"
        row = {"kind": kind, "time": time.time(), "step": self._step, **(as_row(report) if report else {})}
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # closing writes what is left, which fails again
                self._file.close()
            self._file = None
            raise self._unwritable(error) from error

    def _draw(self) -> None:
        if not self._curves:
            return
        began = time.monotonic()
        try:
            picture = draw_curves(read_log(self.folder))
        except Exception:  # hours of training do not die of a picture; the log has its numbers
            logger.warning("cannot draw %s: the run goes on without", self.folder / CURVES, exc_info=True)
            self._curves = False
            return
        try:
            replace_file(self.folder / CURVES, picture)
        except OSError as error:
            raise self._unwritable(error) from error
        self._undrawn = False
        self._drawn_at = time.monotonic()
        self._drawing = self._drawn_at - began

    def _unwritable(self, error: OSError) -> TrainingError:
        why = error.strerror or error
        return TrainingError(f"cannot write the log of the run in {self.folder}: {why}; make room there, then resume")


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of the log in a run's folder, in order, without a last line that was only half written.

    Raises TrainingError if there is none, or if it is no log.
    """
    path = Path(folder) / LOG
    if not path.exists():
        raise TrainingError(f"there is no {LOG} in {folder}: give the folder of a run")
    return [row for _, row in _lines(path)]


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each line of a log and the row it holds; none where there is no file."""
    try:
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror or error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and "kind" in row:
            rows.append((line, row))
        elif number < len(lines):
            raise TrainingError(f"{path}: line {number} is no row of a log: move the file away, or mend it")
    return rows
