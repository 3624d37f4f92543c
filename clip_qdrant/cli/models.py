"""`clip-qdrant models`: a few published models to choose from, with their sizes, licences and published figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from clip_qdrant.cli.output import print_json, print_line, print_table
from clip_qdrant.content import BUNDLED
from clip_qdrant.model_catalog import CATALOG

__all__ = ["models"]


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print them as JSON, with the sources of the figures.")
    ] = False,
) -> None:
    """Show some of the models that --model takes: size, licence, published recall, speed, languages.

    Any other CLIP or SigLIP model of the hub loads by its name too. Nothing is downloaded before a command uses it.
    """
    if as_json:
        print_json({"models": [asdict(entry) for entry in CATALOG]})
        return
    print_table(
        "models to choose from",
        ("--model", ">MB", "licence", ">F30k", ">COCO", ">INet", "speed", ">lang"),
        [
            (
                entry.name,
                entry.megabytes,
                entry.license,
                *("" if value is None else f"{value:.1f}" for value in (entry.flickr30k, entry.coco, entry.imagenet)),
                entry.speed,
                entry.languages,
            )
            for entry in CATALOG
        ],
    )
    print_line("F30k, COCO: published recall@1 of texts to images; INet: zero-shot top-1 on ImageNet; in percent")
    for entry in CATALOG:
        if entry.advice and entry.name != BUNDLED:
            print_line(f"for {entry.advice}: clip-qdrant ingest FOLDER --model {entry.name}")
