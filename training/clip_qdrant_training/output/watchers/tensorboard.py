"""A run in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.errors import MissingExtra
from clip_qdrant_training.output.watchers.scalars import epoch_scalars, step_scalars
from clip_qdrant_training.output.watchers.together import Display
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, as_row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoard"]


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
        self._add(step_scalars(report))

    def epoch_ended(self, report: EpochReport) -> None:
        self._add(epoch_scalars(report))
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
