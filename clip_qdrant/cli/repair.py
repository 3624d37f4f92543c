"""`clip-qdrant repair`: mends damaged collections of an embedded store, as far as their files can be read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdrant_client import models

    from clip_qdrant.store.edge.repair import Repair

__all__ = ["is_stored_image", "repair"]


def repair(
    context: typer.Context,
    collection: Annotated[
        str | None, typer.Option(help="Only this collection; without it all of the store.", metavar="NAME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found and done as JSON.")] = False,
) -> None:
    """Mend an embedded store whose files are damaged: keep what can be read, so that ingest brings what is missing.

    A collection that is whole is left as it is. The files of one that is not are moved to a folder `damaged` of the
    store, and nothing is deleted. Nobody else may have the store open meanwhile.
    """
    settings = wiring.settings_of(context)
    from clip_qdrant.store.connect import is_folder

    if not is_folder(settings.location):
        raise ConfigError(
            f"{settings.shown_location} is no folder: only an embedded store is repaired, a Qdrant server mends itself"
        )
    from clip_qdrant.store.edge.client import EdgeClient
    from clip_qdrant.store.edge.repair import repair_collection

    root = Path(settings.location)
    with EdgeClient(root) as client:
        names = [one.name for one in client.get_collections().collections]
    done = [
        repair_collection(root, name, is_whole=is_stored_image)
        for name in ([collection] if collection is not None else names)
    ]
    if as_json:
        rows = [{**asdict(one), "aside": str(one.aside) if one.aside else None} for one in done]
        print_json({"location": settings.shown_location, "collections": rows})
        return
    if not done:
        print_line(f"there are no collections in {plain(settings.shown_location)}")
    for one in done:
        for line in _describe(one):
            print_line(line)


def is_stored_image(record: models.Record, described: Mapping[str, Any]) -> bool:
    """Whether a point of a collection of ours is an image under its own id, with a vector. Of others all points are."""
    from clip_qdrant.uris import point_id

    uri, vector = (record.payload or {}).get("uri"), record.vector
    has_vector = "" in vector if isinstance(vector, dict) else bool(vector)
    return "clip_qdrant" not in described or (isinstance(uri, str) and point_id(uri) == str(record.id) and has_vector)


def _describe(one: Repair) -> list[str]:
    name = plain(one.name)
    if one.damage is None:
        return [f"{name}: whole, {one.kept} images"]
    of = f" of {one.before}" if one.before is not None else ""
    lines = [f"{name}: mended, {one.kept}{of} images are kept", f"  {plain(one.damage)}"]
    if one.aside is not None:
        lines.append(f"  its files are now in {plain(one.aside)}; delete them when all is well")
    return [*lines, f"  what is missing comes with: clip-qdrant ingest SOURCE --collection {name}"]
