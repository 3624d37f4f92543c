"""The rows of tables, one by one, whatever the size of the table; here those of JSON lines and lists of JSON objects.

A row that cannot be used is given as a `LostRow` in its place, and the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.values import describe_value
from clip_qdrant.tables.encodings import open_utf8

__all__ = ["NOT_UTF8", "LostRow", "Table", "TableRow", "check_depth", "parse_object", "read_json_lines", "read_objects"]

_LONGEST_LINE = 1024 * 1024  # bytes of JSON in one row, which take up to thirty times as much as objects of Python
_DEEPEST = 32  # levels of objects and lists within one another
NOT_UTF8 = "not UTF-8 text; save the file as UTF-8"

Loss = Literal["syntax", "encoding", "columns", "object", "length", "end"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: `place` says where it begins, as in "line 3", `fields` has its values by column.

    Cells of CSV are texts without spaces around them; one that is empty, or has no name, is not among the fields.
    `size` is about that of the row in the table, in bytes.
    """

    place: str
    fields: dict[str, Any]
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LostRow:
    """A row that cannot be used, or all rows from here on (`kind` is "end"). `detail` says what is wrong with it."""

    place: str
    kind: Loss
    detail: str

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Table:
    """An open table. `columns` are the names in its header, at `place`; None for JSON, of which each row has its own.

    An empty CSV file has no columns at all.
    """

    rows: Iterator[TableRow | LostRow]
    columns: Sequence[str] | None = None
    place: str = ""


def read_json_lines(file: IO[bytes]) -> Table:
    """A table with a JSON object on each line, in UTF-8, or UTF-16 with a byte order mark. Empty lines are allowed."""
    return Table(_read_lines(open_utf8(file)))


def read_objects(values: Iterable[Any]) -> Table:
    """A table of the objects in a list of JSON, counted from 0."""
    return Table(_check_object(f"row {number}", value) for number, value in enumerate(values))


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that a text is. Raises MetadataError."""
    row = _parse_line("", text)
    if isinstance(row, LostRow):
        raise MetadataError(row.detail)
    return row.fields


def check_depth(value: Any, levels: int = _DEEPEST) -> None:
    """Raises MetadataError for what would take too deep a recursion later on."""
    if isinstance(value, (dict, list)):
        if not levels:
            raise MetadataError(f"it nests deeper than {_DEEPEST} levels")
        for each in value.values() if isinstance(value, dict) else value:
            check_depth(each, levels - 1)


def _read_lines(file: IO[bytes]) -> Iterator[TableRow | LostRow]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        place = f"line {number}"
        if not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
            while (more := file.readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
                pass
            yield LostRow(place, "length", f"it is longer than {_LONGEST_LINE} bytes")
            continue
        if not line.strip():
            continue
        try:
            yield _parse_line(place, line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            yield LostRow(place, "encoding", NOT_UTF8)


def _parse_line(place: str, text: str) -> TableRow | LostRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for an integer of thousands of digits
        return LostRow(place, "syntax", f"not JSON: {error}")
    if isinstance(value, dict) and text.count("{") + text.count("[") <= _DEEPEST:
        return TableRow(place, value, len(text))
    return _check_object(place, value, len(text))


def _check_object(place: str, value: Any, size: int = 0) -> TableRow | LostRow:
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else describe_value(value)  # of how many levels is not known yet
        return LostRow(place, "object", f"it must be a JSON object, not {what}")
    try:
        check_depth(value)
    except MetadataError as error:
        return LostRow(place, "object", str(error))
    return TableRow(place, value, size)
