"""A table in a folder, such as `metadata.csv` or `captions.csv`: what it says of the images there and in folders below.

A CSV column is of one type: integers, numbers, booleans (true, false) if all its cells are, otherwise text; so a
column with "007" in it stays text. An empty cell is an absent value, one that holds a JSON list is a list, and a
column without a name is not used. Training reads the same tables by the same names of columns; of several captions of
an image, in rows or in a list, a collection has the first.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import IO, Any

from clip_qdrant.collection.standard_fields import STANDARD_FIELDS
from clip_qdrant.errors import MetadataError, SourceError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import describe_value
from clip_qdrant.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS, find_column, find_field, parse_list
from clip_qdrant.tables.delimited import read_csv
from clip_qdrant.tables.rows import LostRow, TableRow, read_json_lines
from clip_qdrant.tables.suffixes import TableFormat
from clip_qdrant_ingestion.sources.descriptions import describe_cells, describe_fields
from clip_qdrant_ingestion.sources.protocol import Description
from clip_qdrant_ingestion.sources.text_values import common_type, parse_text

__all__ = ["FolderTable", "read_folder_table"]

# In a file called metadata the name of the image is in file_name, as the data sets of Hugging Face have it.
_COLUMNS = ("file_name", *(name for name in FILE_COLUMNS if name != "file_name"))


@dataclass(slots=True)
class FolderTable:
    """The rows of one table, by path from its folder; `problems` are texts that begin with the line.

    `partial`: a row was lost, and which image it named nobody knows. `unnamed` columns are not used, nor the captions
    of so many `further` rows that say nothing else of an image which has one.
    """

    rows: dict[str, Description] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    partial: bool = False
    unnamed: int = 0
    further: int = 0
    _places: dict[str, str] = field(default_factory=dict)

    def add(
        self, row: TableRow | LostRow, columns: Sequence[str], describe: Callable[[dict[str, Any]], Description]
    ) -> None:
        """Takes a row, whose image is named in the first of `columns`; if it is wrong it becomes a problem."""
        if isinstance(row, LostRow):
            self.lose(str(row))
            return
        try:
            name = _pop_name(row.fields, columns)
            description = describe(row.fields)
        except MetadataError as error:
            self.lose(f"{row.place}: {error}")
            return
        if name in self._places:
            before = self.rows[name]
            if replace(description, caption=before.caption) == before:
                self.further += 1
                return
            self.problems.append(f"{row.place}: {name!r} has a row already, in {self._places[name]}")
            return
        self.rows[name] = description
        self._places[name] = row.place

    def lose(self, problem: str) -> None:
        """Takes note of a row that cannot be used."""
        self.problems.append(problem)
        self.partial = True

    def describe(self, name: str) -> Description:
        """What the table says about the image at this path."""
        return self.rows.get(name) or Description(partial=self.partial)


def read_folder_table(file: IO[bytes], form: TableFormat) -> FolderTable:
    """The table in an open file of CSV or JSON lines."""
    found = FolderTable()
    if form == "jsonl":
        for row in read_json_lines(file).rows:
            found.add(row, _COLUMNS, lambda fields: describe_fields(fields, CAPTION_COLUMNS))
        return found
    try:
        table = read_csv(file, form, fits=lambda names: find_column(names, _COLUMNS) is not None)
    except SourceError as error:
        found.lose(f"line 1: {error}")
        return found
    if not table.columns:
        return found
    column = find_column(table.columns, _COLUMNS)
    if column is None:
        detail = f"none of the columns is {' or '.join(_COLUMNS)}, but {', '.join(table.columns[:20])}"
        found.lose(f"{table.place}: {detail}")
        return found
    found.unnamed = table.columns.count("")  # the index of pandas, or what a spreadsheet leaves at the end of its lines
    captions = tuple(filter(None, (find_column(table.columns, CAPTION_COLUMNS),)))
    rows = list(table.rows)
    types = _find_types(row for row in rows if isinstance(row, TableRow))
    for row in rows:
        found.add(row, (column,), lambda cells: _describe_with_types(cells, types, captions))
    return found


def _find_types(rows: Iterable[TableRow]) -> dict[str, FieldType]:
    """The type of each column."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name, cell in row.fields.items():
            if parse_list(cell) is None:
                texts[name].append(cell)
    return {name: "keyword" if name in STANDARD_FIELDS else common_type(cells) for name, cells in texts.items()}


def _describe_with_types(
    cells: Mapping[str, str], types: Mapping[str, FieldType], captions: Sequence[str]
) -> Description:
    said = describe_cells(cells, captions)
    values = {name: parse_text(text, types.get(name, "keyword")) for name, text in said.texts.items()}
    written = {name: text for name, text in said.texts.items() if types.get(name, "keyword") != "keyword"}
    return Description(said.caption, {**values, **said.metadata}, written=written, left_out=said.left_out)


def _pop_name(fields: dict[str, Any], columns: Sequence[str]) -> str:
    """Takes the path of the image out of a row, in composed form. Raises MetadataError."""
    column = find_field(fields, columns)
    if column is None:
        raise MetadataError(f"it names no image in any of the columns {', '.join(columns)}")
    name = fields.pop(column)
    if not isinstance(name, str):
        raise MetadataError(f"{column} is the path of an image, not {describe_value(name)}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise MetadataError(f"{column} {name!r} is not a path below the folder of this file")
    return unicodedata.normalize("NFC", str(path))
