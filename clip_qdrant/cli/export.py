"""`clip-qdrant export`: any model as one checkpoint file that needs neither torch nor an export at its first use."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from clip_qdrant.cli.output import plain, print_json, print_line
from clip_qdrant.errors import ConfigError

__all__ = ["Layout", "export"]


class Layout(StrEnum):
    """How a model is written."""

    CHECKPOINT = "checkpoint"
    TRANSFORMERS = "transformers"


def export(
    model: Annotated[
        str, typer.Argument(help='What to export: "bundled", a checkpoint, hf:NAME or hf:FOLDER.', metavar="MODEL")
    ],
    output: Annotated[Path, typer.Argument(help="The checkpoint to write, or a folder.", metavar="OUT.pt")],
    layout: Annotated[
        Layout, typer.Option("--layout", help="One file of ours, or a folder for transformers.", metavar="LAYOUT")
    ] = Layout.CHECKPOINT,
    precision: Annotated[
        Literal["float32", "float16", "bfloat16", "int8"],
        typer.Option(help="float16 and bfloat16 halve the file; int8 makes it faster too, where the processor can."),
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write MODEL as one file that carries its encoders: it is opened at once, without torch and without the hub."""
    from clip_qdrant.export import export_folder, export_model

    if layout is Layout.TRANSFORMERS:
        if precision != "float32":
            raise ConfigError("--precision is for a checkpoint; the folder for transformers is written in float32")
        written = export_folder(model, output)
    else:
        written = export_model(model, output, precision=precision)
    if as_json:
        print_json({**asdict(written), "path": str(written.path)})
        return
    print_line(f"{plain(output)}: {written.bytes / 1e6:,.1f} MB, fingerprint {written.fingerprint[:12]}")
    if (near := written.closeness) is not None:
        print_line(
            f"cosine to float32 over pictures of the sample gallery: {near.image_cosine_mean:.4f}, at least "
            f"{near.image_cosine:.4f}; over their titles {near.text_cosine_mean:.4f}, at least {near.text_cosine:.4f}"
        )
        print_line(f"recall@1 by title: {near.recall:.1f} %, in float32 {near.recall_before:.1f} %")
