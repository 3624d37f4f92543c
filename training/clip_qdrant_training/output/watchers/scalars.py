"""A run as named numbers: what TensorBoard and Weights & Biases draw."""

from __future__ import annotations

from clip_qdrant_training.progress import EpochReport, StepReport

__all__ = ["epoch_scalars", "step_scalars"]


def step_scalars(report: StepReport) -> dict[str, float]:
    return {
        "loss": report.loss,
        **{f"lr/{group}": rate for group, rate in report.lr.items()},
        "logit_scale": report.logit_scale,
        "grad_norm": report.grad_norm,
        "images_per_second": report.images_per_second,
        "waited": report.waited,
    }


def epoch_scalars(report: EpochReport) -> dict[str, float]:
    recalls = {f"recall/{name.replace('_recall', '')}": value for name, value in report.metrics.items()}
    if not report.epoch:  # the start, which has neither loss nor speed
        return recalls
    return {
        "epoch/loss": report.loss,
        "epoch/images_per_second": report.images_per_second,
        "epoch/seconds": report.seconds,
        **recalls,
    }
