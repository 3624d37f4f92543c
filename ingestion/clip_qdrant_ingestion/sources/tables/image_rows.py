"""The images that the rows of a table name, with what the rows say of them.

A row names its image in the column asked for, or in the first of IMAGE_COLUMNS that it has; all its other fields
describe the image. What a cell of CSV holds is known as text only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from clip_qdrant.errors import SourceError, first_line
from clip_qdrant.fields.values import describe_value
from clip_qdrant.tables.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, find_column, find_field
from clip_qdrant.tables.delimited import read_csv
from clip_qdrant.tables.parquet import read_parquet
from clip_qdrant.tables.rows import LostRow, Table, TableRow, read_json_lines
from clip_qdrant.tables.suffixes import TableFormat
from clip_qdrant_ingestion.sources.descriptions import describe_cells, describe_fields
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["ImageRow", "read_rows"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A row: `place` says where it is in the table, `image` is the image as it is named there.

    `size` is about that of the row, in bytes.
    """

    place: str
    image: str
    said: Description
    size: int = 0


def read_rows(
    file: IO[bytes], form: TableFormat, *, uri_column: str | None = None
) -> Generator[ImageRow | LostRow, None, None]:
    """The rows of an open table, in order. Raises SourceError for a table that has no column of images, MissingExtra.

    A table that breaks off says so in its last row.
    """
    wanted = (uri_column,) if uri_column is not None else IMAGE_COLUMNS
    place = "line 1"
    try:
        table = _open(file, form, wanted)
        describe = describe_cells if form in ("csv", "tsv") else describe_fields
        captions: Sequence[str] = CAPTION_COLUMNS
        if table.columns is not None:
            wanted = (_image_column(table.columns, wanted),)
            captions = tuple(filter(None, (find_column(table.columns, CAPTION_COLUMNS),)))
            if uri_column is None:
                _tell_choice(table.columns, wanted[0])
        for row in table.rows:
            place = row.place
            if isinstance(row, LostRow):
                yield row
                continue
            if table.columns is None and uri_column is None:
                _tell_choice(row.fields, find_field(row.fields, wanted))
                uri_column = ""  # which one was taken is told once
            yield _image_row(row, wanted, lambda fields: describe(fields, captions))
    except (OSError, EOFError) as error:
        yield LostRow(f"after {place}", "end", f"it breaks off: {first_line(error)}")


def _tell_choice(columns: Iterable[str], chosen: str | None) -> None:
    """Says which column names the images, where another one may be meant."""
    others = [name for name in columns if name != chosen and find_column((name,), IMAGE_COLUMNS) is not None]
    if chosen is not None and others:
        logger.warning(
            "the images are named by the column %r, and %s is metadata; if that is not what is meant, say which column "
            "names the images by --uri-column (uri_column=)",
            chosen,
            " and ".join(map(repr, others[:5])),
        )


def _open(file: IO[bytes], form: TableFormat, wanted: Sequence[str]) -> Table:
    if form == "jsonl":
        return read_json_lines(file)
    if form == "parquet":
        return read_parquet(file)
    return read_csv(file, form, fits=lambda columns: find_column(columns, wanted) is not None)


def _image_column(columns: Sequence[str], wanted: Sequence[str]) -> str:
    if not columns:
        raise SourceError(f"it is empty; its first line names the columns, such as {wanted[0]}, caption")
    if (column := find_column(columns, wanted)) is not None:
        return column
    raise SourceError(
        f"none of its columns is {' or '.join(wanted)}, but {', '.join(map(repr, columns[:20]))}; "
        "say which column names the images by --uri-column (uri_column=)"
    )


def _image_row(
    row: TableRow, wanted: Sequence[str], describe: Callable[[dict[str, Any]], Description]
) -> ImageRow | LostRow:
    fields = row.fields
    column = find_field(fields, wanted)
    if column is None:
        return LostRow(row.place, "object", f"it names no image in {' or '.join(wanted)}")
    image = fields.pop(column)
    if not isinstance(image, str):
        return LostRow(row.place, "object", f"{column} is the address of an image, not {describe_value(image)}")
    return ImageRow(row.place, image.strip(), describe(fields), row.size)
