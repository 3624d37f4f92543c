"""`clip-qdrant cache`: what models prepared for this computer take up, and making room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.confirm import confirm
from clip_qdrant.cli.output import plain, print_json, print_line, print_table
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.runtime.cache_contents import CacheContents, CachedExport

__all__ = ["cache"]


def cache(
    context: typer.Context,
    action: Annotated[
        Literal["list", "prune"], typer.Argument(help="What to do: list what is there, or prune it.")
    ] = "list",
    older_than: Annotated[
        float | None, typer.Option(help="Prune also what was not used for so many days.", metavar="DAYS", min=0)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Prune all; what is needed is made anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be pruned, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there, or was pruned, as JSON.")] = False,
) -> None:
    """Show the models that were prepared for this computer, and their size; prune those that nothing needs.

    Models that carry their encoders, as the bundled one, need no place here. `prune` removes what killed processes left
    and exports of models that are gone.
    """
    if action == "list" and (older_than is not None or everything or dry_run or yes):
        raise ConfigError("--older-than, --all, --dry-run and --yes are for: clip-qdrant cache prune")
    from clip_qdrant.runtime.cache_contents import find_unneeded, list_contents, remove
    from clip_qdrant.user_folders import default_cache_dir

    contents = list_contents(wiring.settings_of(context).cache_dir or default_cache_dir())
    if action == "list":
        _show(contents, as_json=as_json)
        return
    chosen = find_unneeded(contents, days=older_than, everything=everything)
    size = sum(export.bytes for export in chosen) + contents.leftover_bytes
    what = f"{len(chosen)} of {len(contents.exports)} exports and {len(contents.leftovers)} leftovers"
    if dry_run or not (chosen or contents.leftovers):
        _tell(contents, chosen, size, as_json=as_json, done=False)
        return
    if not yes and not confirm(f"remove {what}, {_megabytes(size)}, from {plain(contents.folder)}?"):
        print_line("nothing was removed")
        raise typer.Exit(1)
    _tell(contents, chosen, remove(contents, chosen), as_json=as_json, done=True)


def _show(contents: CacheContents, *, as_json: bool) -> None:
    if as_json:
        document = {"folder": str(contents.folder), "bytes": contents.bytes}
        exports = [_to_dict(export) for export in contents.exports]
        print_json({**document, "exports": exports, "leftovers": [str(path) for path in contents.leftovers]})
        return
    if contents.exports:
        print_table(
            f"models prepared in {contents.folder}",
            ("model", ">MB", "last used", "fingerprint", "runtime"),
            [_row(export) for export in contents.exports],
        )
    left = f", {_megabytes(contents.leftover_bytes)} of it leftovers" if contents.leftovers else ""
    print_line(f"{_megabytes(contents.bytes)} in {plain(contents.folder)}{left}")
    if contents.leftovers or any(export.orphaned for export in contents.exports):
        print_line("`clip-qdrant cache prune` removes what nothing needs")
    print_line(f"downloads of the hub are in {plain(_hub_folder())}, kept by its own library: `hf cache ls`")


def _tell(contents: CacheContents, exports: Sequence[CachedExport], size: int, *, as_json: bool, done: bool) -> None:
    if as_json:
        removed = [_to_dict(export) for export in exports]
        leftovers = [str(path) for path in contents.leftovers]
        print_json({"removed": done, "bytes": size, "exports": removed, "leftovers": leftovers})
        return
    word = "removed" if done else "to remove"
    for export in exports:
        print_line(f"{word}: {plain(_name(export))}, {_megabytes(export.bytes)}")
    for path in contents.leftovers:
        print_line(f"{word}: {plain(path)}")
    print_line(f"{_megabytes(size)} {'freed' if done else 'would be freed'}" if size else "nothing to remove")


def _row(export: CachedExport) -> tuple[object, ...]:
    name = _name(export) + (" (gone)" if export.orphaned and export.sources else "")
    when = f"{export.last_used.astimezone():%Y-%m-%d}"
    runtime = "damaged" if export.made_with is None else "onnx"
    return name, f"{export.bytes / 1e6:,.0f}", when, export.fingerprint[:12], runtime


def _name(export: CachedExport) -> str:
    return ", ".join(export.sources) or "of no model that is known"


def _to_dict(export: CachedExport) -> dict[str, Any]:
    return {
        "sources": list(export.sources),
        "bytes": export.bytes,
        "last_used": export.last_used,
        "fingerprint": export.fingerprint,
        "runtime": "onnx",
        "made_with": export.made_with,
        "needed": not export.orphaned,
        "path": str(export.path),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _hub_folder() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
