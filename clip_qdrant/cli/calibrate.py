"""`clip-qdrant calibrate`: measures what a cosine similarity is worth in a collection, for `search --min-relevance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line

if TYPE_CHECKING:
    from clip_qdrant.calibration.curves import Calibration

__all__ = ["calibrate", "describe_calibration"]


def calibrate(
    context: typer.Context,
    collection: Annotated[str | None, typer.Option(help="The collection to measure.", metavar="NAME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Measure how alike random texts and images are for this model in this collection, and keep it there.

    It is what tells likely matches from what is merely nearest. The bundled model, and one that was trained here with
    validation pairs, brings it along; any other model needs it once, and again when the collection has changed much.
    """
    settings = wiring.settings_of(context, {"collection": collection})
    with wiring.open_existing_collection(settings, texts=True) as images:
        found = images.calibrate()
    if as_json:
        print_json({"collection": settings.collection, **found.to_dict(), "score": found.score(found.cutoff)})
    else:
        print_line(f"collection {plain(settings.collection)} is calibrated: {describe_calibration(found)}")


def describe_calibration(calibration: Calibration) -> str:
    """What the calibration takes for a likely match, in a line."""
    score = calibration.score(calibration.cutoff)
    return f"a likely match has a relevance of {calibration.cutoff:.4f}, for a text a score of about {score:.3f}"
