"""`clip-qdrant train --find-lr`: tries learning rates, and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_qdrant.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from clip_qdrant_training import TrainingJob

__all__ = ["find_rates"]

_ROWS = 20  # of the table of losses
_RATES = ("head_lr", "image_lr", "text_lr")


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
    learning = _RATES[:1] if config.freeze_encoders else _RATES
    rates = (f"--set {name}={getattr(config, name) * found.suggestion:.2g}" for name in learning)
    print_line(f"suggestion: {found.suggestion:.2g} times the learning rates, {' '.join(rates)}")
