"""`clip-qdrant train --find-lr`: tries learning rates, and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_qdrant.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from clip_qdrant_training import TrainingJob

__all__ = ["find_rates"]

_ROWS = 20  # of the table of losses
_RATES = {"heads": "head_lr", "image": "image_lr", "text": "text_lr"}


def find_rates(job: TrainingJob, *, as_json: bool) -> None:
    """Prints the loss at growing learning rates, and the rates to train with."""
    from clip_qdrant_training.lr_range import lr_range_test

    config, found = job.config, lr_range_test(job)
    if as_json:
        print_json(found.to_dict())
        return
    every = max(1, len(found.factors) // _ROWS)
    rows = list(zip(found.factors, found.losses, strict=True))[::every]
    print_table("loss by learning rate", (">times", ">loss"), [(f"{x:.2g}", f"{loss:.4f}") for x, loss in rows])
    peaks = config.peak_rates().items()
    learning = [(part, peak) for part, peak in peaks if part == "heads" or not config.freeze_encoders]
    rates = (f"--set {_RATES[part]}={peak * found.suggestion:.2g}" for part, peak in learning)
    print_line(f"suggestion: {found.suggestion:.2g} times the learning rates, {' '.join(rates)}")
