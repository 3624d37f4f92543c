"""Captions in the rows of tables: CSV and its kin, JSON lines, lists of JSON objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clip_qdrant.errors import TrainingError
from clip_qdrant.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS, find_column, find_field, parse_list
from clip_qdrant.tables.rows import LostRow, Table, TableRow
from clip_qdrant_training.data.formats.entries import CaptionEntry
from clip_qdrant_training.data.pairs import clean_captions

__all__ = ["names_pairs", "object_entries", "read_rows", "table_entries"]


def names_pairs(columns: Sequence[str]) -> bool:
    """Whether a header has a column of images and one of captions."""
    return find_column(columns, FILE_COLUMNS) is not None and find_column(columns, CAPTION_COLUMNS) is not None


def table_entries(table: Table, path: Path) -> Iterator[CaptionEntry]:
    """Entries of a table whose header `names_pairs`, the rows of one image as one. Raises TrainingError with the line.

    An empty caption is left out; an image with no other is an error.
    """
    columns = table.columns or ()
    image, caption = find_column(columns, FILE_COLUMNS), find_column(columns, CAPTION_COLUMNS)
    split = find_column(columns, ("split",))
    assert image is not None and caption is not None, "names_pairs saw both columns"
    found: dict[tuple[str, str | None], list[str]] = {}
    places: dict[tuple[str, str | None], str] = {}
    for row in read_rows(table, path):
        cells: dict[str, str] = row.fields
        if image not in cells:
            raise TrainingError(f"{path} {row.place} has no image: {', '.join(cells.values()):.80}")
        key = (cells[image], cells.get(split) if split is not None else None)
        places.setdefault(key, row.place)
        found.setdefault(key, []).extend(text.strip() for text in _split_texts(cells.get(caption, "")) if text.strip())
    for (name, part), texts in found.items():
        if not texts:
            place = places[name, part]
            raise TrainingError(f"{path} {place} needs captions: {name!r} has none but empty ones")
        yield CaptionEntry(name, tuple(texts), part)


def object_entries(table: Table, path: Path) -> Iterator[CaptionEntry]:
    """Entries of JSON objects, one a row. Raises TrainingError naming the row."""
    for row in read_rows(table, path):
        where, fields = f"{path} {row.place}", row.fields
        image = find_field(fields, FILE_COLUMNS)
        if image is None or not isinstance(fields[image], str):
            raise _no_image(where, str(fields))
        captions = find_field(fields, CAPTION_COLUMNS)
        if captions is None:
            raise TrainingError(f"{where} needs captions, under one of {', '.join(CAPTION_COLUMNS)}: {fields!s:.80}")
        split = find_column(fields, ("split",))
        part = fields[split] if split is not None else None
        texts = clean_captions(fields[captions], where)
        yield CaptionEntry(fields[image], texts, part if isinstance(part, str) else None)


def read_rows(table: Table, path: Path) -> Iterator[TableRow]:
    """The rows of a table. Raises TrainingError for the first that cannot be used: no data is left out unasked."""
    for row in table.rows:
        if isinstance(row, LostRow):
            raise _error(row, path)
        yield row


def _error(row: LostRow, path: Path) -> TrainingError:
    where = f"{path} {row.place}"
    if row.kind == "encoding":
        return TrainingError(f"cannot read the pairs in {path}: {row} (encoding='utf-8' in Python)")
    if row.kind == "object":
        return _no_image(where, row.detail)
    if row.kind == "syntax":
        return TrainingError(f"{where} is {row.detail}")
    return TrainingError(f"{where} {row.detail.removeprefix('it ')}")


def _no_image(where: str, what: str) -> TrainingError:
    return TrainingError(f"{where} has no image, an object with one of {', '.join(FILE_COLUMNS)}: {what:.80}")


def _split_texts(cell: str) -> list[str]:
    """Several captions in one cell are a JSON list; anything else is one text."""
    value = parse_list(cell)
    return value if value is not None and all(isinstance(text, str) for text in value) else [cell]
