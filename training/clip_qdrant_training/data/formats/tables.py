"""One image and caption a row: JSON lines, a JSON list, CSV and its kin."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clip_qdrant.errors import TrainingError
from clip_qdrant_training.data.formats.entries import CAPTION_FIELDS, IMAGE_FIELDS, Entry, field_of
from clip_qdrant_training.data.pairs import clean_captions

__all__ = ["delimiter_of", "json_lines", "json_list", "table"]

_DELIMITERS = (",", "\t", ";", "|")


def json_lines(lines: Iterable[str], path: Path) -> Iterator[Entry]:
    """Entries of JSON lines. Raises TrainingError naming the line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TrainingError(f"{where} is not JSON: {error}") from error
            yield _from_object(row, where)


def json_list(rows: list[Any], path: Path) -> Iterator[Entry]:
    """Entries of a list of objects. Raises TrainingError naming the row."""
    return (_from_object(row, f"{path} row {number}") for number, row in enumerate(rows))


def delimiter_of(header: str) -> str | None:
    """What separates the columns of a table whose first line this is; None if it names no image and caption."""
    for delimiter in _DELIMITERS:
        names = header.rstrip("\r\n").split(delimiter)
        plain = [name.strip().strip('"') for name in names]
        if field_of(plain, IMAGE_FIELDS) is not None and field_of(plain, CAPTION_FIELDS) is not None:
            return delimiter
    return None


def table(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[Entry]:
    """Entries of CSV text with a header (RFC 4180), the rows of one image as one. Raises TrainingError naming the line.

    An empty caption is left out; an image with no other is an error.
    """
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    found: dict[tuple[str, str | None], list[str]] = {}
    first_line: dict[tuple[str, str | None], int] = {}
    try:
        header = [name.strip() for name in next(row for row in rows if any(cell.strip() for cell in row))]
        image, captions = header.index(_column(header, IMAGE_FIELDS)), header.index(_column(header, CAPTION_FIELDS))
        name = field_of(header, ("split",))
        split = None if name is None else header.index(name)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{path} line {rows.line_num}"
            if len(row) != len(header):
                raise TrainingError(
                    f"{where} has {len(row)} columns and the header {len(header)}: "
                    f"a text with {delimiter!r} in it stands in double quotes"
                )
            if not row[image].strip():
                raise TrainingError(f"{where} has no image: {delimiter.join(row):.80}")
            key = (row[image].strip(), (row[split].strip() or None) if split is not None else None)
            first_line.setdefault(key, rows.line_num)
            texts = _texts(row[captions]) if header[captions].lower() in ("captions", "sentences") else [row[captions]]
            found.setdefault(key, []).extend(text.strip() for text in texts if text.strip())
    except csv.Error as error:
        raise TrainingError(
            f"{path} line {rows.line_num} is not CSV: {error}. A text that holds double quotes stands in double "
            "quotes, and those in it are doubled"
        ) from error
    for (name, part), texts in found.items():
        if not texts:
            raise TrainingError(
                f"{path} line {first_line[name, part]} needs captions: {name!r} has none but empty ones"
            )
        yield Entry(name, tuple(texts), part)


def _column(header: list[str], wanted: tuple[str, ...]) -> str:
    name = field_of(header, wanted)
    assert name is not None, "delimiter_of saw both columns"
    return name


def _texts(cell: str) -> list[str]:
    """Several captions in one cell are a JSON list; anything else is one text."""
    try:
        value = json.loads(cell) if cell.lstrip().startswith("[") else None
    except ValueError:
        value = None
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else [cell]


def _from_object(row: Any, where: str) -> Entry:
    image = field_of(row, IMAGE_FIELDS) if isinstance(row, dict) else None
    if image is None or not isinstance(row[image], str) or not row[image]:
        raise TrainingError(f"{where} has no image, an object with one of {', '.join(IMAGE_FIELDS)}: {row!s:.80}")
    captions = field_of(row, CAPTION_FIELDS)
    if captions is None:
        raise TrainingError(f"{where} needs captions, under one of {', '.join(CAPTION_FIELDS)}: {row!s:.80}")
    split = row.get("split")
    return Entry(row[image], clean_captions(row[captions], where), split if isinstance(split, str) else None)
