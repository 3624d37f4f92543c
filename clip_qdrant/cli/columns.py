"""The columns of a table of hits: those that are shown unless asked otherwise, and any field by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.calibration.rounding import show_relevance
from clip_qdrant.cli.output import metadata_text, place, plain
from clip_qdrant.errors import ConfigError, FilterError
from clip_qdrant.pages import facts

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit
    from clip_qdrant.fields.types import FieldType

__all__ = ["choose_columns", "fill_rows", "path_line"]

_USUAL = ("score", "relevance", "caption", "taken", "place", "metadata", "copies", "image")
_ALWAYS = ("score", "image")  # the others only where one of the hits has something to show


def choose_columns(text: str | None, known: Mapping[str, FieldType]) -> dict[str, str | None] | None:
    """The columns that `text` names, with commas between, and the payload key of each that is a field, named as
    `where` does; None for the usual ones. `known` are payload fields.

    Raises ConfigError for a name that there is not.
    """
    if text is None:
        return None
    from clip_qdrant.filters.build import resolve_field, show_field

    names = [name.strip() for name in text.split(",") if name.strip()]
    chosen: dict[str, str | None] = {}
    for name in names or ("",):
        try:
            chosen[name] = None if name in _COLUMNS else resolve_field(name, known)
        except FilterError as error:
            fields = sorted({show_field(key) for key in known} - set(_COLUMNS))
            raise ConfigError(
                f"there is no column {plain(name)!r}; there are {', '.join(_COLUMNS)}, and the fields "
                f"{', '.join(fields)}"
            ) from error
    return chosen


def fill_rows(
    hits: Sequence[Hit], columns: Mapping[str, str | None] | None, *, first: int
) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row of cells for each hit, for `print_table`; ranks begin at `first`."""
    chosen = dict.fromkeys(_USUAL) if columns is None else columns
    names = list(chosen)
    cells = {name: [_cell(hit, name, key) for hit in hits] for name, key in chosen.items()}
    if columns is None:
        names = [name for name in names if name in _ALWAYS or any(cells[name])]
        names.insert(0, "")
        cells[""] = [str(rank) for rank in range(first, first + len(hits))]
    headings = [f">{name}" if name in ("", "score", "relevance") else name for name in names]
    return headings, [[cells[name][row] for name in names] for row in range(len(hits))]


def path_line(hit: Hit) -> str:
    """The local path of an image, or else its uri: one line for other programs."""
    return hit.uri if hit.path is None else str(hit.path)


def _cell(hit: Hit, name: str, key: str | None) -> str:
    if key is None:
        return _COLUMNS[name](hit)
    from clip_qdrant.collection.search.order import read_value

    value = read_value(hit.payload, key)
    return "" if value is None else metadata_text({"": value}).removeprefix("=")


_COLUMNS: Mapping[str, Callable[[Any], str]] = {
    "score": lambda hit: "" if hit.score is None else f"{hit.score:.3f}",
    "relevance": lambda hit: "" if hit.relevance is None else show_relevance(hit.relevance),
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
