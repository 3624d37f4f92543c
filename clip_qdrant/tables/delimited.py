"""Rows of CSV and TSV, one by one. A row that cannot be used is lost alone, whatever is wrong with it.

A row of CSV may go over several lines, for a text in double quotes may hold line breaks. So a quote that is never
closed could take all rows after it along. Here a row that goes wrong costs the line it begins in, and reading goes on
with the next one; it may have _MOST_LINES lines and _LONGEST_ROW characters.

TSV has no quoting (https://www.iana.org/assignments/media-types/text/tab-separated-values): a line is a row, and a
double quote stands for itself. But spreadsheets write cells with quotes or tabs as in CSV: a cell that is quoted from
its beginning to its end, its own quotes doubled, is taken for such a one.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Protocol

from clip_qdrant.errors import SourceError
from clip_qdrant.fields.values import is_utf8
from clip_qdrant.tables.columns import check_columns
from clip_qdrant.tables.encodings import open_utf8
from clip_qdrant.tables.rows import NOT_UTF8, LostRow, Table, TableRow
from clip_qdrant.tables.suffixes import TableFormat

__all__ = ["read_csv"]

_LONGEST_ROW = 1024 * 1024  # characters
_MOST_LINES = 256  # of a row
_MOST_COLUMNS = 10_000
_DELIMITERS = (",", "\t", ";", "|")


def read_csv(file: IO[bytes], form: TableFormat = "csv", *, fits: Callable[[Sequence[str]], bool]) -> Table:
    """A table of text with a header (RFC 4180), in UTF-8 with or without a byte order mark, in UTF-16 with one.

    Columns are separated by what the format says, comma or tab. If the header does not fit then, another of comma,
    tab, semicolon and bar is taken under which it does; `fits` is asked with its names. Empty rows are passed over.
    Raises SourceError for a header that cannot be read, that has a name twice, or thousands of names.
    """
    # Bytes that are no UTF-8 become lone surrogates, so that they cost their own row and not the rest of the table.
    lines = _Lines(io.TextIOWrapper(open_utf8(file), encoding="utf-8-sig", errors="surrogateescape", newline=""))
    try:
        delimiter = _find_delimiter(lines.peek(), "\t" if form == "tsv" else ",", fits)
        split: _Splitter = _TabSplitter(lines) if (form, delimiter) == ("tsv", "\t") else _CsvSplitter(lines, delimiter)
        place, columns = _read_header(lines, split)
    except BaseException:
        lines.detach()
        raise
    return Table(_read_rows(lines, split, columns, delimiter), columns, place)


class _RowTooLong(Exception):
    """A row is longer than one may be."""


class _Lines:
    """Lines of a text, of which a row may give back all but its first; `count` of them were read."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._waiting: deque[str | None] = deque()  # None: a line that is too long, and was passed over
        self._row: list[str | None] = []
        self.size = 0  # characters of the row
        self.count = 0

    def peek(self) -> str:
        """The next line that is not empty, which is still to be read; "" at the end."""
        while True:
            line = self._waiting[0] if self._waiting else self._read()
            if line is None or line.strip() or not line:
                if not self._waiting and line != "":
                    self._waiting.append(line)
                return line or ""
            self.count += 1
            self._waiting.clear()

    def begin_row(self) -> None:
        self._row, self.size = [], 0

    def give_back(self) -> None:
        """Leaves all lines of the row but the first to be read again."""
        self._waiting.extendleft(reversed(self._row[1:]))
        self.count -= len(self._row[1:])
        del self._row[1:]

    def detach(self) -> None:
        """Lets go of the file: to close it is its owner's."""
        if not self._text.closed:
            self._text.detach()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._read()
        if line == "":
            raise StopIteration
        self.count += 1
        self._row.append(line)
        self.size += len(line or "")
        if line is None or self.size > _LONGEST_ROW:
            raise _RowTooLong(f"the row is longer than {_LONGEST_ROW} characters")
        if len(self._row) > _MOST_LINES:
            raise _RowTooLong(f"the row has more than {_MOST_LINES} lines; a double quote in it may not be closed")
        return line

    def _read(self) -> str | None:
        line = self._text.readline(_LONGEST_ROW + 1)
        if len(line) <= _LONGEST_ROW:
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(_LONGEST_ROW)
        return None


class _Splitter(Protocol):
    def read(self, columns: int | None) -> list[str]:
        """The cells of the next row, of which there should be so many.

        Raises StopIteration at the end, csv.Error and _RowTooLong.
        """


class _CsvSplitter:
    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)

    def read(self, columns: int | None) -> list[str]:  # noqa: ARG002  the quotes tell
        return next(self._reader)


class _TabSplitter:
    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def read(self, columns: int | None) -> list[str]:
        line = next(self._lines).rstrip("\r\n")
        cells = line.split("\t")
        if '"' not in line:
            return cells
        if columns is not None and len(cells) > columns:  # tabs in a cell that is quoted
            try:
                quoted = next(csv.reader([line], delimiter="\t", strict=True), [])
            except csv.Error:
                quoted = []
            if len(quoted) == columns:
                return quoted
        return list(map(_unquote, cells))


def _unquote(cell: str) -> str:
    inner = cell[1:-1]
    if len(cell) < 2 or not (cell[0] == cell[-1] == '"') or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


def _find_delimiter(header: str, usual: str, fits: Callable[[Sequence[str]], bool]) -> str:
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if fits([name.strip() for name in names]):
            return delimiter
    return usual


def _read_cells(lines: _Lines, split: _Splitter, columns: int | None) -> Iterator[tuple[str, list[str] | LostRow]]:
    """The rows that say something, each with its place."""
    while True:
        place = f"line {lines.count + 1}"
        lines.begin_row()
        try:
            cells = split.read(columns)
        except StopIteration:
            return
        except _RowTooLong as error:
            lines.give_back()
            yield place, LostRow(place, "length", str(error))
        except csv.Error as error:
            lines.give_back()
            hint = "a text that holds double quotes stands in double quotes, and those in it are doubled"
            yield place, LostRow(place, "syntax", f"not CSV: {error}; {hint}")
        else:
            if any(cell.strip() for cell in cells):
                yield place, cells


def _read_header(lines: _Lines, split: _Splitter) -> tuple[str, list[str]]:
    """The first row: its place and the names in it."""
    place, cells = next(_read_cells(lines, split, None), ("line 1", []))
    if isinstance(cells, LostRow):
        raise SourceError(f"its first line is no header: {cells.detail}")
    if len(cells) > _MOST_COLUMNS:
        raise SourceError(f"it has {len(cells)} columns; {_MOST_COLUMNS} are the most")
    columns = [cell.strip() for cell in cells]
    check_columns(columns)
    return place, columns


def _read_rows(lines: _Lines, split: _Splitter, columns: Sequence[str], delimiter: str) -> Iterator[TableRow | LostRow]:
    try:
        for place, cells in _read_cells(lines, split, len(columns)):
            if isinstance(cells, LostRow):
                yield cells
            elif len(cells) != len(columns):
                lines.give_back()
                hint = f"a text with {delimiter!r} in it stands in double quotes"
                detail = f"it has {len(cells)} columns and the header {len(columns)}: {hint}"
                yield LostRow(place, "columns", detail)
            elif not is_utf8("".join(cells)):
                yield LostRow(place, "encoding", NOT_UTF8)
            else:
                named = zip(columns, map(str.strip, cells), strict=True)
                yield TableRow(place, {name: cell for name, cell in named if name and cell}, lines.size)
    finally:
        lines.detach()
