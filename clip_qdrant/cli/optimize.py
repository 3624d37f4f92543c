"""`clip-qdrant optimize`: reclaims the space of deleted images of an embedded store, and builds its vector index."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line, stderr_console
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.store.edge.optimize import Optimization, OptimizeStep

__all__ = ["optimize"]

_MIB = 1 << 20
_STEPS = {"copy": "copying its files", "build": "building", "exchange": "bringing the copy up to date"}


def optimize(
    context: typer.Context,
    collection: Annotated[
        str | None, typer.Option(help="Only this collection; without it all of the store.", metavar="NAME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Reclaim the space of deleted images of an embedded store, and build the index that makes search in many fast.

    It works on a copy, which takes the place of the collection at the end: it needs room on the disk for that, may be
    interrupted at any moment, and takes minutes for a million images. `info` says where it pays.
    """
    settings = wiring.settings_of(context)
    from clip_qdrant.store.connect import is_folder

    where = plain(settings.shown_location)
    if not is_folder(settings.location):
        raise ConfigError(
            f"{where} is no folder: only an embedded store is optimized, a Qdrant server does it by itself"
        )
    # Of an embedded store, in this process or in one of its own; others may search it meanwhile.
    client: Any = wiring.open_client(settings, sharing="host")
    try:
        names = [one.name for one in client.get_collections().collections] if collection is None else [collection]
        done = [_optimize(client, name) for name in names]
    finally:
        client.close()
    if as_json:
        print_json({"location": settings.shown_location, "collections": [asdict(one) for one in done]})
        return
    if not done:
        print_line(f"there are no collections in {where}")
    for one in done:
        print_line(_describe(one))


def _optimize(client: Any, name: str) -> Optimization:
    """Shows on a terminal how far it is."""
    with stderr_console().status(plain(name)) as status:
        done: Optimization = client.optimize(name, on_progress=lambda step: status.update(_describe_step(name, step)))
    return done


def _describe_step(name: str, step: OptimizeStep) -> str:
    share = "" if step.done is None else f" {step.done:.0%}"
    return f"{plain(name)}: {_STEPS[step.name]}{share}, {_duration(step.seconds)}"


def _describe(one: Optimization) -> str:
    name = plain(one.name)
    if not one.changed:
        return f"{name}: nothing to do, {one.points} images"
    index = f"{one.indexed} of them in the vector index" if one.indexed else "too few for a vector index"
    sizes = f"{one.bytes_before / _MIB:,.1f} MiB on disk before, {one.bytes_now / _MIB:,.1f} MiB now"
    return f"{name}: optimized in {_duration(one.seconds)}, {one.points} images, {index}, {sizes}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
