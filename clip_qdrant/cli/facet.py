"""`clip-qdrant facet`: how many images have each value of a field, or lie in each range of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line, print_table
from clip_qdrant.errors import ConfigError, FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clip_qdrant.collection.facets.histogram import Histogram
    from clip_qdrant.collection.facets.values import Facets
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant.fields.types import FieldType

__all__ = ["facet"]


def facet(
    context: typer.Context,
    fields: Annotated[
        list[str],
        typer.Argument(help="Keyword, integer or bool fields, or parts of a date (taken_at.month).", metavar="FIELD"),
    ],
    where: Annotated[str | None, typer.Option(help="Only images this holds for.", metavar="EXPR")] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(help="A chosen value: the other fields are counted among its images. Repeat.", metavar="F=VALUE"),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Count a date by year, month, day or hour.", metavar="PERIOD")] = None,
    bins: Annotated[int | None, typer.Option(help="Count a number in so many equal ranges.", metavar="N")] = None,
    edges: Annotated[
        str | None, typer.Option(help="Count a number between these, with commas: 0,100,400.", metavar="N,N,…")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The collection to look in.", metavar="NAME")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="The most values to show.", metavar="N")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Count the images of each value of FIELD, most frequent first, or in each range of it."""
    histogram = by is not None or bins is not None or edges is not None
    if histogram and (len(fields) > 1 or select):
        raise ConfigError("--by, --bins and --edges take one FIELD, without --select; narrow it by --where")
    settings = wiring.settings_of(context, {"collection": collection})
    said = {"collection": settings.collection, "where": where}
    with wiring.open_existing_collection(settings) as images:
        if histogram:
            limits = _read_edges(edges) if edges is not None else None
            found = images.histogram(fields[0], by=by, bins=bins, edges=limits, where=where)  # type: ignore[arg-type]  # a str for by is checked there
            _show_histogram(fields[0], found, {**said, "exact": images.counts_exactly}, as_json)
        elif len(fields) == 1 and not select:
            values = images.facet(fields[0], where=where, limit=limit)
            _show_values({fields[0]: values}, {**said, "exact": images.counts_exactly}, as_json)
        else:
            selected = _read_selected(images, fields, select or [])
            chosen = images.facets(selected, where=where, limit=limit)
            _show_values(chosen, {**said, "exact": images.counts_exactly}, as_json)


def _read_edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--edges takes numbers with commas between them, not {text!r}") from error


def _read_selected(images: ImageCollection, fields: Sequence[str], select: Sequence[str]) -> dict[str, list[Any]]:
    """The fields to count, and the values chosen of each."""
    selected: dict[str, list[Any]] = {field: [] for field in fields}
    for choice in select:
        field, equals, value = choice.partition("=")
        if not equals or not field:
            raise ConfigError(f"--select takes a field and a value, as in album=pets, not {choice!r}")
        selected.setdefault(field, []).append(_read_value(value, _find_kind(field, images.fields)))
    return selected


def _find_kind(field: str, known: Mapping[str, FieldType]) -> FieldType | None:
    """The type of a field; None for a part of a date, and for what is refused where it is counted."""
    from clip_qdrant.filters.build import resolve_field

    with suppress(FilterError):
        return known[resolve_field(field, known)]
    return None


def _read_value(text: str, kind: FieldType | None) -> str | int | bool:
    """A chosen value as the field has it; what is none of its type stays text, which is refused with its reason."""
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in ("integer", None):
        with suppress(ValueError):
            return int(text)
    return text


def _show_values(found: Mapping[str, Facets], said: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        rows = {
            field: {
                "values": [{"value": each.value, "count": each.count} for each in values],
                "more_values": values.more_values,
                "more_images": values.more_images,
            }
            for field, values in found.items()
        }
        one = {"field": next(iter(rows)), **next(iter(rows.values()))} if len(rows) == 1 else {"facets": rows}
        print_json({**said, **one})
        return
    for field, values in found.items():
        if not values:
            print_line(f"no image has a value of {plain(field)}")
            continue
        counted = [(each.value, each.count) for each in values]
        print_table(_title(field, said), ("value", ">images" if said["exact"] else ">about"), counted)
        if values.more_images:
            number = "many" if values.more_values is None else values.more_values
            print_line(f"and {number} more values, of {values.more_images} images (--limit shows more)")


def _show_histogram(field: str, found: Histogram, said: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        rows = [{"label": one.label, "start": one.start, "end": one.end, "count": one.count} for one in found]
        print_json({**said, "field": field, "bins": rows, "missing": found.missing, "outside": found.outside})
        return
    if not found:
        print_line(f"no image has a value of {plain(field)}")
        return
    most = max(1, *(one.count for one in found))
    bars = [(one.label, one.count, "#" * -(-40 * one.count // most)) for one in found]
    print_table(_title(field, said), (field, ">images" if said["exact"] else ">about", ""), bars)
    rest = [f"{found.missing} without {plain(field)}"] * bool(found.missing)
    rest += [f"{found.outside} outside these ranges"] * bool(found.outside)
    if rest:
        print_line("and " + ", ".join(rest))


def _title(field: str, said: Mapping[str, Any]) -> str:
    return field + (f"  where {said['where']}" if said["where"] else "")
