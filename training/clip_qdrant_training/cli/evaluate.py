"""`clip-qdrant evaluate`: what models can do, side by side; the measuring is done by clip_qdrant_training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import failures, wiring
from clip_qdrant.cli.output import plain, print_json, print_line, print_table
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant_training.evaluation.judge import Judgement

__all__ = ["evaluate"]


def evaluate(
    context: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(
            help='Models, each a checkpoint, "bundled" or hf:NAME; then image-caption pairs as `train` takes them.',
            metavar="MODEL... DATA",
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="The part of DATA to judge by, where it has parts.", metavar="NAME")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of the images, where DATA does not say.", metavar="DIR")
    ] = None,
    zero_shot: Annotated[
        Path | None,
        typer.Option(
            "--zero-shot",
            help='Classify too: a folder of class folders, or lines like {"image": "cat.jpg", "label": "cat"}.',
            metavar="PATH",
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure what blur, crops, compression, typos and more cost.")
    ] = False,
    speed: Annotated[bool, typer.Option("--speed", help="Measure speed here and now, and tell the size.")] = False,
    bootstrap: Annotated[
        int, typer.Option(help="Samples that the 95 % intervals are made of; 0 leaves them out.", metavar="N")
    ] = 1000,
    report: Annotated[
        Path | None, typer.Option(help="Write charts, best and worst queries to a page too.", metavar="FILE.html")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            help="Exit with 1 if a model is below this, as in text_to_image_recall@1=20; may be repeated.",
            metavar="METRIC=VALUE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how often MODEL finds a caption's own image among all of DATA, and the reverse; compare models."""
    models, data = _split(arguments)
    least = dict(map(_bound, fail_under or ()))
    if bootstrap < 0 or bootstrap == 1:
        raise ConfigError(f"--bootstrap is {bootstrap}: an interval needs at least 2 samples, 0 leaves it out")
    from clip_qdrant_training.data.read import read_pairs
    from clip_qdrant_training.evaluation.judge import figure_names, judge
    from clip_qdrant_training.evaluation.zero_shot import read_labelled

    known = figure_names(zero_shot=zero_shot is not None)
    for name in least:
        if name not in known:
            raise ConfigError(f"--fail-under names {name!r}, which is not measured; there are {', '.join(known)}")
    pairs = read_pairs(data, images=images, split=split)
    labelled = read_labelled(zero_shot) if zero_shot else []
    judgements = [
        judge(
            wiring.open_embedder(wiring.settings_of(context, {"model": model})),
            pairs,
            model=model,
            samples=bootstrap,
            labelled=labelled,
            changes=robustness,
            clock=speed,
        )
        for model in models
    ]
    captions = sum(len(pair.captions) for pair in pairs)
    if as_json:
        print_json(_document(judgements, {"images": len(pairs), "captions": captions}))
    else:
        _show(judgements, f"{len(pairs)} images and {captions} captions")
    if report:
        from clip_qdrant_training.output.report import write_report

        title = f"{', '.join(plain(model) for model in models)} on {plain(data)}"
        write_report(report, title=title, pairs=pairs, judgements=judgements)
        print_line(f"report written to {plain(report)}", error=as_json)
    missed = list(_find_missed(judgements, least))
    if missed:
        failures.print_error("\n".join(missed))
        raise typer.Exit(failures.FAILURE)


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], str]:
    *models, data = arguments
    if not models:
        raise ConfigError(f"only {data!r} is given: name at least one model and then the data, as in bundled dev.jsonl")
    return models, data


def _bound(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not name or not math.isfinite(bound):
        raise ConfigError(f"--fail-under is {text!r}: write it like text_to_image_recall@1=20")
    return name, bound


def _find_missed(judgements: Sequence[Judgement], least: dict[str, float]) -> Iterator[str]:
    for judged in judgements:
        for name, bound in least.items():
            found = judged.figures()[name]
            if not found >= bound:
                yield f"{plain(judged.model)}: {name} is {found:.4g}, under {bound:g}"


def _document(judgements: Sequence[Judgement], counts: dict[str, int]) -> dict[str, Any]:
    """One model's figures with the counts, or the counts and a list of models."""
    if len(judgements) > 1:
        return {**counts, "models": [judged.to_dict() for judged in judgements]}
    found = judgements[0].to_dict()
    return {"model": found.pop("model"), "fingerprint": found.pop("fingerprint"), **counts, **found}


def _show(judgements: Sequence[Judgement], counted: str) -> None:
    from clip_qdrant_training.evaluation import figures

    columns = ("", *(f">{judged.model}" for judged in judgements))
    intervals = ", with 95 % intervals" if any(judged.intervals for judged in judgements) else ""
    print_table(f"recall in percent over {counted}{intervals}", columns, figures.figure_rows(judgements))
    for title, rows in (
        (figures.LOST_TITLE, list(figures.lost_rows(judgements))),
        ("speed and size", list(figures.cost_rows(judgements))),
    ):
        if rows:
            print_table(title, columns, rows)
