"""`clip-qdrant export`: any model as one checkpoint file that needs neither torch nor an export at its first use.

A model of transformers also as the folder that transformers reads.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from clip_qdrant.cli.output import plain, print_json, print_line
from clip_qdrant.errors import ConfigError

__all__ = ["export"]


class Layout(str, Enum):
    """How a model lies on disk."""

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
    half: Annotated[
        bool, typer.Option("--half", help="Round the weights to float16: half the size, another fingerprint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write MODEL as one file that carries its encoders: it is opened at once, without torch and without the hub."""
    from clip_qdrant.torch_extra import require_torch

    require_torch("exporting a model")
    from clip_qdrant.model.loading import read_checkpoint
    from clip_qdrant.model.saving import export_checkpoint
    from clip_qdrant.runtime.onnx_export import make_graphs

    if layout is Layout.TRANSFORMERS:
        from clip_qdrant.model.published.save import save_transformers

        if half:
            raise ConfigError("--half is for a checkpoint; the folder for transformers is written in float32")
        checkpoint = read_checkpoint(model)
        save_transformers(checkpoint, output)
        fingerprint, size = checkpoint.fingerprint(), sum(file.stat().st_size for file in output.iterdir())
    else:
        fingerprint = export_checkpoint(read_checkpoint(model), output, make_graphs, half=half)
        size = output.stat().st_size
    if as_json:
        print_json({"output": str(output), "fingerprint": fingerprint, "bytes": size})
    else:
        print_line(f"{plain(output)}: {size / 1e6:,.1f} MB, fingerprint {fingerprint[:12]}")
