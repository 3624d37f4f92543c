"""Rows of a table that names images: CSV, TSV, JSONL and Parquet, one by one, whatever the size of the table.

A row names its image in the column asked for, or in the first of URI_COLUMNS that it has. `caption` is the caption, an
object in the column `metadata`, and all other columns, are the metadata. What a CSV cell holds is known as text only.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any, Literal, TextIO, cast

from clip_qdrant.errors import MetadataError, MissingExtra, SourceError, first_line
from clip_qdrant.fields.values import is_utf8, shown
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Description

__all__ = ["URI_COLUMNS", "Format", "LostRow", "Row", "described", "parse_object", "read_rows"]

Format = Literal["csv", "tsv", "jsonl", "parquet"]

URI_COLUMNS = ("uri", "url", "image_url", "image", "file_name", "path", "file")
_LONGEST_LINE = 16 * 1024 * 1024  # bytes of JSON in one row
_LONGEST_ROW = 1024 * 1024  # characters of CSV
_DEEPEST = 32  # levels of objects and lists within one another


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `place` says where it stands in the table, as in "line 3"; `image` is the image as it is named there."""

    place: str
    image: str
    said: Description


@dataclass(frozen=True, slots=True)
class LostRow:
    """A row that cannot be used, or all rows from here on (`rest`)."""

    detail: str
    rest: bool = False


def read_rows(file: IO[bytes], form: Format, *, uri_column: str | None = None) -> Generator[Row | LostRow, None, None]:
    """The rows of an open table, in order. Raises SourceError for a table that has no column of images, MissingExtra.

    A table that breaks off tells so with its last row.
    """
    columns = (uri_column,) if uri_column is not None else URI_COLUMNS
    if form == "jsonl":
        rows = _jsonl(file, columns)
    elif form == "parquet":
        rows = _parquet(file, columns)
    else:
        rows = _csv(file, columns, "," if form == "csv" else "\t")
    try:
        yield from rows
    except (OSError, EOFError, zlib.error) as error:
        yield LostRow(f"it breaks off: {first_line(error)}", rest=True)


def described(fields: Mapping[str, Any]) -> Description:
    """What an object of JSON, or a row, says of an image. None is absent. Raises MetadataError."""
    caption, nested = fields.get("caption"), fields.get("metadata")
    if caption is not None and not isinstance(caption, str):
        raise MetadataError(f"caption must be text, not {shown(caption)}")
    if nested is not None and not isinstance(nested, Mapping):
        raise MetadataError(f"metadata must be an object, not {shown(nested)}")
    others = {name: value for name, value in fields.items() if name not in ("caption", "metadata")}
    return Description((caption or "").strip() or None, _present({**others, **(nested or {})}))


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that a text is. Raises MetadataError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for an integer of thousands of digits
        raise MetadataError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else shown(value)  # of how many levels is not known yet
        raise MetadataError(f"it must be a JSON object, not {what}")
    if text.count("{") + text.count("[") > _DEEPEST:
        _check_depth(value)
    return value


def _check_depth(value: Any, levels: int = _DEEPEST) -> None:
    """Raises MetadataError for what would take too deep a recursion later on."""
    if isinstance(value, (dict, list)):
        if not levels:
            raise MetadataError(f"it nests deeper than {_DEEPEST} levels")
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, levels - 1)


def _csv(file: IO[bytes], columns: Sequence[str], delimiter: str) -> Iterator[Row | LostRow]:
    # Bytes that are no UTF-8 become lone surrogates, so that they cost their own row and not the rest of the table.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _csv_rows(_Lines(text), columns, delimiter)
    finally:
        text.detach()  # the file is its owner's to close


class _Lines:
    """Lines for a csv.reader, of which one row gets at most _LONGEST_ROW characters; `count` of them were read."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._left = 0
        self.count = 0

    def begin_row(self) -> None:
        self._left = _LONGEST_ROW

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left)
        if not line:
            raise StopIteration
        self.count += 1
        self._left -= len(line)
        if not self._left:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(_LONGEST_ROW)
            raise csv.Error(f"the row is longer than {_LONGEST_ROW} characters")
        return line


def _csv_rows(lines: _Lines, columns: Sequence[str], delimiter: str) -> Iterator[Row | LostRow]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    key, line = "", 1
    while True:
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if header is None:
                raise SourceError(f"its first line is no header: {error}") from error
            yield LostRow(f"line {line}: {error}")
            line = lines.count + 1
            continue
        place, line = f"line {line}", lines.count + 1
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            key = _key_of(header, columns)
            continue
        try:
            yield _row(place, key, _cells(header, cells))
        except MetadataError as error:
            yield LostRow(f"{place}: {error}")
    if header is None:
        raise SourceError(f"it is empty; its first line names the columns, such as {', '.join(columns[:1])}, caption")


def _cells(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise MetadataError(f"it has {len(cells)} cells, the header {len(header)}")
    present = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if name and cell.strip()}
    if broken := next((name for name, cell in present.items() if not is_utf8(cell)), None):
        raise MetadataError(f"{broken} is not UTF-8 text; save the file as UTF-8")
    return present


def _row(place: str, key: str, cells: dict[str, str]) -> Row:
    image = cells.pop(key, None)
    if image is None:
        raise MetadataError(f"it names no image in the column {key}")
    caption, nested = cells.pop("caption", None), cells.pop("metadata", None)
    metadata = described(parse_object(nested)).metadata if nested else {}
    texts = {name: text for name, text in cells.items() if name not in metadata}
    return Row(place, image, Description(caption, metadata, texts))


def _key_of(header: Sequence[str], columns: Sequence[str]) -> str:
    """The column of images. Raises SourceError."""
    if doubled := {name for name in header if name and header.count(name) > 1}:
        raise SourceError(f"there are several columns {', '.join(map(repr, sorted(doubled)))}; give each its own name")
    for column in columns:
        if column in header:
            return column
    raise SourceError(
        f"none of its columns is {' or '.join(columns)}, but {', '.join(map(repr, header))}; "
        "say which column names the images by --uri-column (uri_column=)"
    )


def _jsonl(file: IO[bytes], columns: Sequence[str]) -> Iterator[Row | LostRow]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        place = f"line {number}"
        if not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
            while (more := file.readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
                pass
            yield LostRow(f"{place}: it is longer than {_LONGEST_LINE} bytes")
            continue
        if not line.strip():
            continue
        try:
            yield _object_row(place, columns, parse_object(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        except UnicodeDecodeError:
            yield LostRow(f"{place}: not UTF-8 text; save the file as UTF-8")
        except MetadataError as error:
            yield LostRow(f"{place}: {error}")


def _object_row(place: str, columns: Sequence[str], fields: dict[str, Any]) -> Row:
    key = next((column for column in columns if fields.get(column) not in (None, "")), None)
    if key is None:
        raise MetadataError(f"it names no image in {' or '.join(columns)}")
    image = fields.pop(key)
    if not isinstance(image, str):
        raise MetadataError(f"{key} is the address of an image, not {shown(image)}")
    return Row(place, image.strip(), described(fields))


def _parquet(file: IO[bytes], columns: Sequence[str]) -> Iterator[Row | LostRow]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "worker", "reading Parquet files") from error
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"it is no Parquet file: {first_line(error)}") from error
    key = _key_of(table.schema_arrow.names, columns)
    number = 0
    try:
        for batch in table.iter_batches(batch_size=OBJECTS_A_PAGE):
            for values in _microseconds(batch, pa).to_pylist():
                number += 1
                try:
                    _check_depth(values)
                    yield _object_row(f"row {number}", (key,), cast("dict[str, Any]", values))
                except MetadataError as error:
                    yield LostRow(f"row {number}: {error}")
    except (pa.ArrowException, ValueError, RecursionError) as error:
        yield LostRow(f"after row {number} it cannot be read: {first_line(error)}", rest=True)


def _microseconds(batch: Any, pa: Any) -> Any:
    """The batch with its times of nanoseconds cut, as Python's and Qdrant's times have none."""
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
        else field
        for field in batch.schema
    ]
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type, safe=False) for column, field in zip(batch.columns, fields, strict=True)],
        schema=pa.schema(fields),
    )


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value, name) for name, value in fields.items() if value is not None}


def _plain(value: Any, name: str) -> Any:
    """A value of a table as metadata has it: objects without what is absent, decimal numbers as floats."""
    if isinstance(value, Mapping):
        return _present(value)
    if isinstance(value, list):
        return [_plain(each, name) for each in value if each is not None]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        raise MetadataError(f"{name} holds {len(value)} bytes, which is no metadata; leave the column out")
    return value
