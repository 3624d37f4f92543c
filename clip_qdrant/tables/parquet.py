"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from clip_qdrant.errors import MetadataError, MissingExtra, SourceError, first_line
from clip_qdrant.tables.columns import check_columns
from clip_qdrant.tables.rows import LostRow, Table, TableRow, check_depth

__all__ = ["read_parquet"]

_ROWS_AT_ONCE = 1000


def read_parquet(file: IO[bytes]) -> Table:
    """A Parquet table, whose values are those of Python. Raises SourceError as `read_csv`, MissingExtra."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "worker", "reading Parquet files") from error
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"it is no Parquet file: {first_line(error)}") from error
    columns = table.schema_arrow.names
    check_columns(columns)
    return Table(_read_batches(table, pa), columns)


def _read_batches(table: Any, pa: Any) -> Iterator[TableRow | LostRow]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
            for fields in _cut_nanoseconds(batch, pa).to_pylist():
                number += 1
                place = f"row {number}"
                try:
                    check_depth(fields)
                except MetadataError as error:
                    yield LostRow(place, "object", str(error))
                else:
                    yield TableRow(place, fields)
    except (pa.ArrowException, ValueError, RecursionError) as error:
        yield LostRow(f"after row {number}", "end", f"it cannot be read: {first_line(error)}")


def _cut_nanoseconds(batch: Any, pa: Any) -> Any:
    """The batch with its times of nanoseconds cut to microseconds, as Python's and Qdrant's times are."""
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
