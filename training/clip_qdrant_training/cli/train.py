"""`clip-qdrant train`: puts a run of clip_qdrant_training together from the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line, stderr_console, stdout_console
from clip_qdrant.errors import ConfigError
from clip_qdrant.torch_extra import require_torch
from clip_qdrant_training.cli.check import check_pairs
from clip_qdrant_training.cli.find_lr import find_rates

if TYPE_CHECKING:
    from clip_qdrant_training import Mixture, Pair, TrainConfig, TrainingJob, Watcher

__all__ = ["train"]

_START = "Start"
_RUN = "Run"
_SHORT = "Shortcuts for --set"


def _option(help_text: str, metavar: str, panel: str | None = None, *names: str) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, rich_help_panel=panel)


def train(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(help="Pairs: a captions file, its folder, shards, a saved data set.", metavar="DATA"),
    ],
    output: Annotated[Path | None, _option("The checkpoint to write.", "FILE", None, "--output", "-o")] = None,
    weight: Annotated[
        list[float] | None, _option("How often DATA is seen in an epoch; one for each DATA.", "X")
    ] = None,
    split: Annotated[str | None, _option("The part of DATA to train on, where it has parts.", "NAME")] = None,
    val: Annotated[
        Path | None, _option("Pairs to judge each epoch by, and the start; by default held out of DATA.", "DATA")
    ] = None,
    val_split: Annotated[str | None, _option("The part to judge by, of --val or else of DATA.", "NAME")] = None,
    images: Annotated[Path | None, _option("The folder of the images, where DATA does not say.", "DIR")] = None,
    recipe: Annotated[str | None, _option("Options from a recipe: its name or a .toml file.", "NAME|FILE")] = None,
    changes: Annotated[
        list[str] | None,
        _option("Any option of training, over the recipe; may be repeated.", "KEY=VALUE", None, "--set"),
    ] = None,
    start: Annotated[
        str | None, _option("Start from this model, not --model: a checkpoint, or hf:NAME.", "MODEL", _START)
    ] = None,
    image_encoder: Annotated[
        str | None, _option("Start anew from this timm model, not --model.", "NAME", _START)
    ] = None,
    text_encoder: Annotated[
        str | None, _option("Start anew from this transformers model or folder.", "NAME", _START)
    ] = None,
    run: Annotated[
        Path | None, _option("The folder of the run; by default runs/ and OUTPUT's name.", "DIR", _RUN)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in its folder.", rich_help_panel=_RUN)
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write for TensorBoard too.", rich_help_panel=_RUN)
    ] = False,
    wandb: Annotated[str | None, _option("Log to this project at Weights & Biases too.", "PROJECT", _RUN)] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read all data once and tell what is wrong.")] = False,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Only try learning rates and suggest some.")] = False,
    epochs: Annotated[int | None, _option("Times over the data.", "N", _SHORT)] = None,
    batch_size: Annotated[int | None, _option("Pairs in one step.", "N", _SHORT)] = None,
    freeze_encoders: Annotated[
        bool,
        typer.Option(
            "--freeze-encoders",
            help="Train the heads only: minutes instead of hours on a CPU.",
            rich_help_panel=_SHORT,
        ),
    ] = False,
    last_layers: Annotated[
        int | None, _option("Train the last layers of the encoders, and the heads.", "N", _SHORT)
    ] = None,
    lora: Annotated[
        int | None, _option("Train adapters of this rank in place of the encoders' weights.", "RANK", _SHORT)
    ] = None,
    wise_ft: Annotated[
        bool,
        typer.Option("--wise-ft", help="Try mixes of start and end, and keep the best.", rich_help_panel=_SHORT),
    ] = False,
    head_lr: Annotated[float | None, _option("Learning rate of the heads.", "LR", _SHORT)] = None,
    image_lr: Annotated[float | None, _option("Learning rate of the image encoder.", "LR", _SHORT)] = None,
    text_lr: Annotated[float | None, _option("Learning rate of the text encoder.", "LR", _SHORT)] = None,
    weight_decay: Annotated[float | None, _option("Weight decay.", "X", _SHORT)] = None,
    seed: Annotated[int | None, _option("Seed of order, augmentation and captions.", "N", _SHORT)] = None,
    device: Annotated[
        str | None, _option("A torch device; by default a GPU if there is one.", "DEVICE", _SHORT)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON; epochs go to stderr.")] = False,
) -> None:
    """Train the model on image-caption pairs, starting from --start or --model, and write the best checkpoint.

    The best is the start itself if no epoch is better.

    What a run leaves (settings, log, curves, report, its state) lies in the folder of the run.
    """
    require_torch("training")
    if check and find_lr:
        raise ConfigError("give --check or --find-lr, not both: each does one thing and trains nothing")
    if output is None and not (check or find_lr):
        raise ConfigError("--output is missing: name the checkpoint to write, as in --output mine.pt")
    settings = wiring.settings_of(context, {"device": device})
    options = {
        "weights": tuple(weight) if weight else None,
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "freeze_encoders": freeze_encoders or None,
        "last_layers": last_layers,
        "lora": lora,
        "wise_ft": wise_ft or None,
        "head_lr": head_lr,
        "image_lr": image_lr,
        "text_lr": text_lr,
        "weight_decay": weight_decay,
        "seed": seed,
        "device": settings.device if settings.device != "auto" else None,  # a recipe may know better
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    from clip_qdrant_training.config import TrainConfig

    config = TrainConfig.load(recipe, changes or (), **given)
    chosen = _choose_start(context, settings.model, start, config)
    read = _read_data(data, config, split, val, val_split, images)
    if not _is_main():
        if check or find_lr:
            return
        logging.getLogger("clip_qdrant_training").setLevel(logging.ERROR)  # one of them warns for all
    if check:
        check_pairs(read.mixture.pairs, read.validation or [], chosen, as_json=as_json)
    elif find_lr:
        find_rates(_make_job(read, config, chosen), as_json=as_json)
    else:
        assert output is not None
        folder = run or Path("runs") / output.stem
        watchers = _make_watchers(folder, as_json=as_json, tensorboard=tensorboard, project=wandb)
        _train(read, config, chosen, output, folder, watchers, resume=resume, as_json=as_json)


def _choose_start(context: typer.Context, model: str, start: str | None, config: TrainConfig) -> str | None:
    """The model to start from; None for new encoders."""
    given = [f"--start {start}"] if start is not None else []
    given += ["--model"] if "model" in wiring.options_given(context) else []
    given += ["the encoders to start anew from"] if config.image_encoder or config.text_encoder else []
    if len(given) > 1:
        raise ConfigError(f"give {', or '.join(given)}, not both")
    if config.image_encoder or config.text_encoder:
        return None
    return start or model


class _Data(NamedTuple):
    """The pairs to train on, those to judge by, and where both are from, for the head of config.toml."""

    mixture: Mixture
    validation: list[Pair] | None
    notes: list[str]


def _read_data(
    data: Sequence[Path],
    config: TrainConfig,
    split: str | None,
    val: Path | None,
    val_split: str | None,
    images: Path | None,
) -> _Data:
    from clip_qdrant_training.data.read import Mixture, Part, read_pairs

    if config.weights and len(config.weights) != len(data):
        raise ConfigError(f"weights is {config.weights} for {len(data)} sets of pairs: give one for each")
    if val_split is not None and val is None:
        if len(data) > 1:
            raise ConfigError(f"--val-split is {val_split!r} for {len(data)} sets of pairs: say by --val of which")
        val = data[0]
    weights = config.weights or (1.0,) * len(data)
    mixture = Mixture(
        [
            Part(read_pairs(path, images=images, split=split), weight, path.name)
            for path, weight in zip(data, weights, strict=True)
        ]
    )
    validation = None if val is None else read_pairs(val, images=images, split=val_split)
    notes = [_note("data", path, split) for path in data]
    notes += [_note("val", val, val_split)] if val else []
    return _Data(mixture, validation, notes)


def _note(kind: str, path: Path, split: str | None) -> str:
    return f"{kind}: {path.absolute()}{f', split {split}' if split else ''}"


def _is_main() -> bool:
    from clip_qdrant_training.loop.distributed import is_main

    return is_main()


def _make_watchers(folder: Path, *, as_json: bool, tensorboard: bool, project: str | None) -> list[Watcher]:
    if not _is_main():
        return []
    from clip_qdrant_training.output.watchers.live_table import LiveTable
    from clip_qdrant_training.output.watchers.tensorboard import TensorBoard
    from clip_qdrant_training.output.watchers.weights_and_biases import WeightsAndBiases

    watchers: list[Watcher] = [LiveTable(stderr_console() if as_json else stdout_console())]
    if tensorboard:
        watchers.append(TensorBoard(folder / "tensorboard"))
    if project is not None:
        watchers.append(WeightsAndBiases(project, folder.resolve().name, folder))
    return watchers


def _make_job(data: _Data, config: TrainConfig, start: str | None, output: Path | None = None) -> TrainingJob:
    from clip_qdrant_training.job import TrainingJob
    from clip_qdrant_training.start import read_start, read_teacher

    return TrainingJob(
        read_start(start, config),
        data.mixture,
        validation=data.validation,
        config=config,
        teacher=read_teacher(config),
        trained_on=", ".join(part.name for part in data.mixture.parts),
        output=output,
        graphs=True,
    )


def _train(
    data: _Data,
    config: TrainConfig,
    start: str | None,
    output: Path,
    folder: Path,
    watchers: list[Watcher],
    *,
    resume: bool,
    as_json: bool,
) -> None:
    from clip_qdrant_training.run import run_training

    began = time.perf_counter()
    try:
        trained = run_training(
            _make_job(data, config, start, output).with_validation(),
            folder,
            resume=resume,
            watchers=watchers,
            notes=[*data.notes, *([f"model: {start}"] if start else [])],
        )
    except KeyboardInterrupt:
        if _is_main():
            _tell_how_to_go_on(folder)
        raise
    if not _is_main():
        return
    if as_json:
        print_json(
            {
                "output": str(output),
                "run": str(folder),
                "fingerprint": trained.fingerprint(),
                "metrics": dict(trained.metrics),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
        return
    report = folder / "report.html"
    print_line(f"settings and log are in {plain(folder)}{', a report in report.html' if report.exists() else ''}")
    print_line(f"written to {plain(output)}; use it with --model {plain(output)}")


def _tell_how_to_go_on(folder: Path) -> None:
    from clip_qdrant_training.loop.state import STATE

    if (folder / STATE).exists():
        print_line(
            f"{plain(folder)} has the run up to its last save: the same command with --resume goes on from there",
            error=True,
        )
    else:
        print_line(
            "nothing is saved before the end of the first epoch; --set save_every=100 saves every 100 steps", error=True
        )
