"""A run at Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.errors import ConfigError, MissingExtra
from clip_qdrant_training.output.watchers.scalars import epoch_scalars, step_scalars
from clip_qdrant_training.output.watchers.together import Display
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, as_row

if TYPE_CHECKING:
    import wandb

__all__ = ["WeightsAndBiases"]

_MODES = ("online", "offline", "disabled")


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
        self._log(step_scalars(report))

    def epoch_ended(self, report: EpochReport) -> None:
        scalars = epoch_scalars(report)
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
