"""What shows a run while it goes on: a live table, TensorBoard, Weights & Biases.

from clip_qdrant_training.output.log import RunLog
from clip_qdrant_training.output.watchers import LiveTable, TensorBoard, Together
watcher = Together([RunLog("runs/first"), LiveTable(Console()), TensorBoard("runs/first/tensorboard")])
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from clip_qdrant.errors import ConfigError, MissingExtra
from clip_qdrant_training.output.curves import Average
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher, as_row

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "Display",
    "LiveTable",
    "TensorBoard",
    "Together",
    "WeightsAndBiases",
    "epoch_line",
]

logger = logging.getLogger(__name__)

_MODES = ("online", "offline", "disabled")
_REFRESH = 0.25  # seconds between two looks at the live line


class Display:
    """Base of the watchers that a run can do without: `Together` drops one that fails, and the run goes on."""


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
                f"{report.epoch}/{report.epochs}",
                f"{report.loss:.4f}",
                _recalls(report.metrics, "text_to_image"),
                _recalls(report.metrics, "image_to_text"),
                f"{report.images_per_second:.0f}",
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


class TensorBoard(Display):
    """Scalars of steps and epochs as event files in a folder: `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: str | Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise MissingExtra("tensorboard", "train", "writing for TensorBoard") from error
        self._folder = Path(folder)
        self._writer: SummaryWriter | None = None
        self._step = 0

    def started(self, run: RunStart) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard forgets what an earlier start wrote from purge_step on.
        self._writer = SummaryWriter(str(self._folder), purge_step=run.step + 1 if run.step else None)
        self._step = run.step
        self._writer.add_text("run", f"```\n{json.dumps(as_row(run), indent=2)}\n```", run.step)

    def stepped(self, report: StepReport) -> None:
        self._step = report.step
        self._add(_step_scalars(report))

    def epoch_ended(self, report: EpochReport) -> None:
        self._add(_epoch_scalars(report))
        if self._writer is not None:
            self._writer.flush()

    def ended(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, scalars: Mapping[str, float]) -> None:
        assert self._writer is not None, "started() comes first"
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, self._step)


class WeightsAndBiases(Display):
    """The same scalars as a run at Weights & Biases; a resumed run goes on in the one it began.

    `mode`: "online", "offline" (kept in `folder` for `wandb sync`) or "disabled". Without one, `WANDB_MODE` decides.
    """

    def __init__(self, project: str, name: str | None, folder: str | Path, mode: str | None = None) -> None:
        if mode is not None and mode not in _MODES:
            raise ConfigError(f"the mode of Weights & Biases is {mode!r}: choose {', '.join(_MODES)}")
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise MissingExtra("wandb", "wandb", "logging to Weights & Biases") from error
        self._project, self._name, self._folder, self._mode = project, name, Path(folder), mode
        self._run: wandb.Run | None = None
        self._step = 0

    def started(self, run: RunStart) -> None:
        import wandb

        self._step = run.step
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = self._folder / "wandb.id"
        known = kept.read_text().strip() if run.step and kept.exists() else None
        self._run = wandb.init(
            project=self._project,
            name=self._name,
            dir=str(self._folder),
            mode=self._mode,  # type: ignore[arg-type]  # checked above to be one of its literals
            config=as_row(run),
            id=known,
            resume="allow" if known else None,
            settings=wandb.Settings(silent=True, console="off"),  # capturing the console would break the live line
        )
        kept.write_text(self._run.id)
        # Its own step only grows and drops what comes below it, as the first steps of a resumed run do.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def stepped(self, report: StepReport) -> None:
        self._step = report.step
        self._log(_step_scalars(report))

    def epoch_ended(self, report: EpochReport) -> None:
        scalars = _epoch_scalars(report)
        self._log(scalars)
        if report.best and self._run is not None:
            self._run.summary.update({f"best/{name}": value for name, value in scalars.items()})

    def ended(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _log(self, scalars: Mapping[str, float]) -> None:
        assert self._run is not None, "started() comes first"
        self._run.log({"step": self._step, **scalars})


class Together:
    """Several watchers as one. A Display that fails is told of once and dropped; any other watcher's error is raised.

    All of them are ended, also where one of them fails to.
    """

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = list(watchers)

    def started(self, run: RunStart) -> None:
        self._each(lambda watcher: watcher.started(run))

    def stepped(self, report: StepReport) -> None:
        self._each(lambda watcher: watcher.stepped(report))

    def epoch_ended(self, report: EpochReport) -> None:
        self._each(lambda watcher: watcher.epoch_ended(report))

    def ended(self) -> None:
        with contextlib.ExitStack() as stack:
            for watcher in reversed(self._watchers):  # a stack runs its last first
                stack.callback(self._try, watcher, lambda watcher: watcher.ended())

    def _each(self, call: Callable[[Watcher], None]) -> None:
        for watcher in list(self._watchers):
            self._try(watcher, call)

    def _try(self, watcher: Watcher, call: Callable[[Watcher], None]) -> None:
        try:
            call(watcher)
        except Exception:
            if not isinstance(watcher, Display):
                raise
            logger.warning("%s failed and is dropped: the run goes on", type(watcher).__name__, exc_info=True)
            self._watchers.remove(watcher)
            with contextlib.suppress(Exception):  # a terminal gets its cursor back, a file its end, if they still can
                watcher.ended()


def epoch_line(report: EpochReport) -> str:
    """An epoch as one line of text."""
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


def _step_scalars(report: StepReport) -> dict[str, float]:
    return {
        "loss": report.loss,
        **{f"lr/{group}": rate for group, rate in report.lr.items()},
        "logit_scale": report.logit_scale,
        "grad_norm": report.grad_norm,
        "images_per_second": report.images_per_second,
        "waited": report.waited,
    }


def _epoch_scalars(report: EpochReport) -> dict[str, float]:
    return {
        "epoch/loss": report.loss,
        "epoch/images_per_second": report.images_per_second,
        "epoch/seconds": report.seconds,
        **{f"recall/{name.replace('_recall', '')}": value for name, value in report.metrics.items()},
    }
