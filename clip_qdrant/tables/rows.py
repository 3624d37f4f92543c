"""The rows of tables, one by one, whatever the size of the table: CSV and its kin, JSON lines, lists of JSON objects.

A row that cannot be used is given as a `LostRow` in its place, and the rest goes on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from clip_qdrant.errors import MetadataError, SourceError
from clip_qdrant.fields.values import describe_value, is_utf8
from clip_qdrant.tables.columns import check_columns
from clip_qdrant.tables.suffixes import TableFormat

__all__ = ["LostRow", "Table", "TableRow", "check_depth", "parse_object", "read_csv", "read_json_lines", "read_objects"]

_LONGEST_LINE = 16 * 1024 * 1024  # bytes of JSON in one row
_LONGEST_ROW = 1024 * 1024  # characters of CSV
_DEEPEST = 32  # levels of objects and lists within one another
_DELIMITERS = (",", "\t", ";", "|")
_NOT_UTF8 = "not UTF-8 text; save the file as UTF-8"

Loss = Literal["syntax", "encoding", "columns", "object", "length", "end"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: `place` says where it begins, as in "line 3", `fields` has its values by column.

    Cells of CSV are texts without spaces around them; one that is empty, or has no name, is not among the fields.
    """

    place: str
    fields: dict[str, Any]


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


def read_csv(file: IO[bytes], form: TableFormat = "csv", *, fits: Callable[[Sequence[str]], bool]) -> Table:
    """A table of text with a header (RFC 4180), in UTF-8 with or without a byte order mark.

    Columns are separated by what the format says, comma or tab. If the header does not fit then, another of comma,
    tab, semicolon and bar is taken under which it does; `fits` is asked with its names. Empty rows are passed over.
    Raises SourceError for a header that cannot be read, or that has a name twice.
    """
    # Bytes that are no UTF-8 become lone surrogates, so that they cost their own row and not the rest of the table.
    lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""))
    try:
        delimiter = _find_delimiter(lines.peek(), "\t" if form == "tsv" else ",", fits)
        cells = _read_cells(lines, delimiter)
        place, columns = _read_header(cells)
    except BaseException:
        lines.detach()
        raise
    return Table(_read_rows(lines, cells, columns, delimiter), columns, place)


def read_json_lines(file: IO[bytes]) -> Table:
    """A table with a JSON object on each line, in UTF-8 with or without a byte order mark. Empty lines are allowed."""
    return Table(_read_lines(file))


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


class _Lines:
    """Lines for a csv.reader, of which one row gets at most _LONGEST_ROW characters; `count` of them were read."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._left = 0
        self._peeked = ""
        self.count = 0

    def peek(self) -> str:
        """The next line that is not empty; it is still to be read."""
        while not self._peeked and (line := self._text.readline(_LONGEST_ROW)):
            if line.strip():
                self._peeked = line
            else:
                self.count += 1
        return self._peeked

    def begin_row(self) -> None:
        self._left = _LONGEST_ROW

    def detach(self) -> None:
        """Lets go of the file: to close it is its owner's."""
        if not self._text.closed:
            self._text.detach()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._peeked = self._peeked or self._text.readline(self._left), ""
        if not line:
            raise StopIteration
        self.count += 1
        self._left -= len(line)
        if self._left <= 0:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(_LONGEST_ROW)
            raise _RowTooLong(f"the row is longer than {_LONGEST_ROW} characters")
        return line


class _RowTooLong(Exception):
    """A row of CSV is longer than one may be."""


def _find_delimiter(header: str, usual: str, fits: Callable[[Sequence[str]], bool]) -> str:
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if fits([name.strip() for name in names]):
            return delimiter
    return usual


def _read_cells(lines: _Lines, delimiter: str) -> Iterator[tuple[str, list[str] | LostRow]]:
    """The rows that say something, each with its place."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        place = f"line {lines.count + 1}"
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RowTooLong as error:
            yield place, LostRow(place, "length", str(error))
        except csv.Error as error:
            hint = "a text that holds double quotes stands in double quotes, and those in it are doubled"
            yield place, LostRow(place, "syntax", f"not CSV: {error}; {hint}")
        else:
            if any(cell.strip() for cell in cells):
                yield place, cells


def _read_header(rows: Iterator[tuple[str, list[str] | LostRow]]) -> tuple[str, list[str]]:
    """The first row: its place and the names in it."""
    place, cells = next(rows, ("line 1", []))
    if isinstance(cells, LostRow):
        raise SourceError(f"its first line is no header: {cells.detail}")
    columns = [cell.strip() for cell in cells]
    check_columns(columns)
    return place, columns


def _read_rows(
    lines: _Lines, rows: Iterator[tuple[str, list[str] | LostRow]], columns: Sequence[str], delimiter: str
) -> Iterator[TableRow | LostRow]:
    try:
        for place, cells in rows:
            if isinstance(cells, LostRow):
                yield cells
            elif len(cells) != len(columns):
                hint = f"a text with {delimiter!r} in it stands in double quotes"
                detail = f"it has {len(cells)} columns and the header {len(columns)}: {hint}"
                yield LostRow(place, "columns", detail)
            elif not is_utf8("".join(cells)):
                yield LostRow(place, "encoding", _NOT_UTF8)
            else:
                named = zip(columns, map(str.strip, cells), strict=True)
                yield TableRow(place, {name: cell for name, cell in named if name and cell})
    finally:
        lines.detach()


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
            yield LostRow(place, "encoding", _NOT_UTF8)


def _parse_line(place: str, text: str) -> TableRow | LostRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for an integer of thousands of digits
        return LostRow(place, "syntax", f"not JSON: {error}")
    few = text.count("{") + text.count("[") <= _DEEPEST
    return TableRow(place, value) if few and isinstance(value, dict) else _check_object(place, value)


def _check_object(place: str, value: Any) -> TableRow | LostRow:
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else describe_value(value)  # of how many levels is not known yet
        return LostRow(place, "object", f"it must be a JSON object, not {what}")
    try:
        check_depth(value)
    except MetadataError as error:
        return LostRow(place, "object", str(error))
    return TableRow(place, value)
