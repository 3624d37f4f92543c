"""The columns of a table of hits: those that are shown unless asked otherwise, and any field by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.cli.output import metadata_text, place, plain
from clip_qdrant.errors import ConfigError
from clip_qdrant.fields.types import METADATA_PREFIX
from clip_qdrant.pages import facts

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit

__all__ = ["choose_columns", "fill_rows", "path_line"]

_USUAL = ("score", "relevance", "caption", "taken", "place", "metadata", "copies", "image")
_ALWAYS = ("score", "image")  # the others only where one of the hits has something to show


def choose_columns(text: str | None, known: Collection[str]) -> tuple[str, ...] | None:
    """The columns that `text` names, with commas between; None for the usual ones. `known` are payload fields.

    Raises ConfigError for a name that there is not.
    """
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    fields = {name.removeprefix(METADATA_PREFIX) for name in known}
    for name in names or ("",):
        if name not in _COLUMNS and name not in known and name not in fields:
            raise ConfigError(
                f"there is no column {plain(name)!r}; there are {', '.join(_COLUMNS)}, and the fields "
                f"{', '.join(sorted(fields - set(_COLUMNS)))}"
            )
    return names


def fill_rows(hits: Sequence[Hit], columns: Sequence[str] | None, *, first: int) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row of cells for each hit, for `print_table`; ranks begin at `first`."""
    names = list(columns or _USUAL)
    cells = {name: [_cell(hit, name) for hit in hits] for name in names}
    if columns is None:
        names = [name for name in names if name in _ALWAYS or any(cells[name])]
        names.insert(0, "")
        cells[""] = [str(rank) for rank in range(first, first + len(hits))]
    headings = [f">{name}" if name in ("", "score", "relevance") else name for name in names]
    return headings, [[cells[name][row] for name in names] for row in range(len(hits))]


def path_line(hit: Hit) -> str:
    """The local path of an image, or else its uri: one line for other programs."""
    return hit.uri if hit.path is None else str(hit.path)


def _cell(hit: Hit, name: str) -> str:
    shown = _COLUMNS.get(name)
    if shown is not None:
        return shown(hit)
    value = hit.metadata.get(name.removeprefix(METADATA_PREFIX))
    if value is None:
        value = hit.payload
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else metadata_text({"": value}).removeprefix("=")


_COLUMNS: Mapping[str, Callable[[Any], str]] = {
    "score": lambda hit: "" if hit.score is None else f"{hit.score:.3f}",
    "relevance": lambda hit: "" if hit.relevance is None else f"{hit.relevance:.3f}",
    "caption": lambda hit: hit.caption or "",
    "taken": facts.show_date,
    "place": facts.show_place,
    "metadata": lambda hit: metadata_text(facts.choose_metadata(hit)),
    "copies": lambda hit: f"+{len(hit.copies)}" if hit.copies else "",
    "image": place,
    "name": facts.show_name,
    "folder": facts.show_folder,
    "path": path_line,
    "uri": lambda hit: hit.uri,
    "id": lambda hit: hit.id,
}
