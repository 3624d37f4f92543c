"""`clip-qdrant train`: hands over to clip_qdrant_training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clip_qdrant_training import EpochReport

__all__ = ["train"]

_Data = Annotated[
    Path, typer.Argument(help='Lines like {"image": "cat.jpg", "captions": ["a cat"]}.', metavar="DATA.jsonl")
]


def train(
    context: typer.Context,
    data: _Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to write.", metavar="FILE")],
    val: Annotated[
        Path | None, typer.Option(help="Pairs to judge each epoch by; the best one is kept.", metavar="DATA.jsonl")
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Start anew from this timm model, not from --model.", metavar="NAME")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Start anew from this transformers model or folder.", metavar="NAME")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Times over the data.", metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs in one step.", metavar="N")] = None,
    freeze_encoders: Annotated[
        bool, typer.Option("--freeze-encoders", help="Train the heads only: minutes instead of hours on a CPU.")
    ] = False,
    head_lr: Annotated[float | None, typer.Option(help="Learning rate of the heads.", metavar="LR")] = None,
    image_lr: Annotated[float | None, typer.Option(help="Learning rate of the image encoder.", metavar="LR")] = None,
    text_lr: Annotated[float | None, typer.Option(help="Learning rate of the text encoder.", metavar="LR")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.", metavar="X")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of order, augmentation and captions.", metavar="N")] = None,
    device: Annotated[str | None, typer.Option(help="A torch device; by default a GPU if there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON; epochs go to stderr.")] = False,
) -> None:
    """Train the model on image-caption pairs, starting from --model, and write the best checkpoint."""
    settings = wiring.settings_of(context, {"device": device})
    anew = image_encoder is not None or text_encoder is not None
    if anew and "model" in wiring.options_given(context):
        raise ConfigError("give --model, or the encoders to start anew from, not both")
    if not anew and settings.model.startswith("hf:"):
        raise ConfigError(f"{settings.model} cannot be trained, only embedded with: start from a checkpoint file")
    from clip_qdrant_training import fit

    start = None if anew or settings.model == "bundled" else settings.model
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "freeze_encoders": freeze_encoders,
        "head_lr": head_lr,
        "image_lr": image_lr,
        "text_lr": text_lr,
        "weight_decay": weight_decay,
        "seed": seed,
        "device": settings.device,
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    began = time.perf_counter()
    trained = fit(
        data,
        validation=val,
        start=start,
        output=output,
        on_epoch=lambda report: _tell_epoch(report, error=as_json),
        **given,
    )
    if as_json:
        print_json(
            {
                "output": str(output),
                "fingerprint": trained.fingerprint(),
                "metrics": dict(trained.metrics),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
        return
    print_line(f"written to {plain(output)}; use it with --model {plain(output)}")


def _tell_epoch(report: EpochReport, *, error: bool) -> None:
    measured = f"  {_recalls(report.metrics)}{'  best so far' if report.best else ''}" if report.metrics else ""
    print_line(
        f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f}  {report.seconds:.0f} s  "
        f"{report.images_per_second:.0f} images/s{measured}",
        error=error,
    )


def _recalls(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name.replace('_recall', '').replace('_', ' ')} {value:.1f}" for name, value in metrics.items())
