"""A table on the terminal: a row for each epoch and, below them, a line that lives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.text import Text

from clip_qdrant_training.output.moving_average import Average
from clip_qdrant_training.output.watchers.together import Display
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport

__all__ = ["LiveTable", "epoch_line"]

_REFRESH = 0.25  # seconds between two looks at the live line


class LiveTable(Display):
    """A row for each epoch and, below them, a line that lives; one plain line an epoch where there is no terminal."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._began = self._shown = -math.inf
        self._from_step = 0
        self._loss = Average()
        self._speed = Average(0.9)
        self._waited = Average(0.9)
        self._last: Mapping[str, float] = {}
        self._best: Mapping[str, float] = {}

    def started(self, run: RunStart) -> None:
        self._began, self._from_step = self._clock(), run.step
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        self._print(
            f"{run.pairs:,} pairs, {run.captions:,} captions; {run.trainable:,} of {run.parameters:,} parameters learn"
        )
        if run.step:
            self._print(f"resumed after step {run.step:,}")
        cells = ("epoch", "loss", "text to image", "image to text", "images/s", "time")
        self._print(_columns(*cells), style="bold")

    def stepped(self, report: StepReport) -> None:
        loss = self._loss.add(report.loss)
        speed, waited = self._speed.add(report.images_per_second), self._waited.add(report.waited)
        now = self._clock()
        if self._live is None or (now - self._shown < _REFRESH and report.step < report.steps):
            return
        self._shown = now
        # By the clock, not the time of the steps: validation and checkpoints take their share of what is left too.
        left = (now - self._began) / max(1, report.step - self._from_step) * (report.steps - report.step)
        line = [f"step {report.step:,}/{report.steps:,}", f"loss {loss:.4f}"]
        if self._last:
            line.append(f"R@1 {_recall_at_1(self._last)}")
        if self._best:
            line.append(f"best {_recall_at_1(self._best)}")
        line += [f"{speed:.0f} images/s", f"{waited:.0%} waited", f"{_duration(left)} left"]
        self._live.update(Text("  ".join(line), no_wrap=True, overflow="ellipsis"), refresh=True)

    def epoch_ended(self, report: EpochReport) -> None:
        self._last = report.metrics
        if report.best:
            self._best = report.metrics
        if self._live is None:
            self._print(epoch_line(report))
            return
        best = report.best and report.metrics
        self._print(
            _columns(
                f"{report.epoch}/{report.epochs}" if report.epoch else "start",
                f"{report.loss:.4f}" if report.epoch else "",
                _recalls(report.metrics, "text_to_image"),
                _recalls(report.metrics, "image_to_text"),
                f"{report.images_per_second:.0f}" if report.epoch else "",
                _duration(report.seconds),
            )
            + ("  best" if best else ""),
            style="green" if best else "",
        )

    def ended(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, line: str, *, style: str = "") -> None:
        """Above the live line, where it stays: a run of many epochs is longer than a screen."""
        self._console.print(Text(line, style=style, no_wrap=True), soft_wrap=True)


def epoch_line(report: EpochReport) -> str:
    """An epoch as one line of text."""
    line = f"start  {report.seconds:.0f} s"
    if report.epoch:
        line = (
            f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f}  {report.seconds:.0f} s  "
            f"{report.images_per_second:.0f} images/s"
        )
    for name, value in report.metrics.items():
        line += f"  {name.replace('_recall', '').replace('_', ' ')} {value:.1f}"
    return line + ("  best so far" if report.best and report.metrics else "")


def _columns(epoch: str, loss: str, to_image: str, to_text: str, speed: str, took: str) -> str:
    return f"{epoch:>7}  {loss:>7}  {to_image:>17}  {to_text:>17}  {speed:>8}  {took:>7}"  # with "  best" 79 wide


def _recalls(metrics: Mapping[str, float], direction: str) -> str:
    """Recall@1, 5 and 10, those that were measured."""
    known = [metrics[name] for k in (1, 5, 10) if (name := f"{direction}_recall@{k}") in metrics]
    return " ".join(f"{value:.1f}" for value in known) or "-"


def _recall_at_1(metrics: Mapping[str, float]) -> str:
    """Text to image / image to text."""
    both = (metrics.get(f"{direction}_recall@1") for direction in ("text_to_image", "image_to_text"))
    return " / ".join("-" if value is None else f"{value:.1f}" for value in both)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
