"""Rows of Parquet files, read in pieces of bounded size.

A Parquet file of a kilobyte may stand for gigabytes: a long text is kept once, and each of its rows points at it. So it
is looked up first how much a row takes, and as many rows are read at once as fit into _AT_ONCE bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from clip_qdrant.errors import MetadataError, MissingExtra, SourceError, first_line
from clip_qdrant.tables.columns import check_columns
from clip_qdrant.tables.rows import LostRow, Table, TableRow, check_depth

__all__ = ["read_parquet"]

_ROWS_AT_ONCE = 1000
_AT_ONCE = 16 << 20  # bytes
_LARGEST_ROW = 1 << 20  # bytes
_BYTES_A_VALUE = 16
_MOST_COLUMNS = 10_000


def read_parquet(file: IO[bytes]) -> Table:
    """A Parquet table, whose values are those of Python. Raises SourceError as `read_csv`, MissingExtra."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "worker", "reading Parquet files") from error
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        columns = table.schema_arrow.names
        texts = [one.path for one in map(table.schema.column, range(len(table.schema))) if _is_text(one)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"it is no Parquet file: {first_line(error)}") from error
    if len(columns) > _MOST_COLUMNS:
        raise SourceError(f"it has {len(columns)} columns; {_MOST_COLUMNS} are the most")
    check_columns(columns)
    # For a look at the texts alone: to keep them apart from the rows that point at them takes longer.
    dictionaries = parquet.ParquetFile(file, metadata=table.metadata, pre_buffer=False, read_dictionary=texts)
    return Table(_read_groups(table, dictionaries, pa), columns)


def _is_text(column: Any) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY")


def _read_groups(table: Any, dictionaries: Any, pa: Any) -> Iterator[TableRow | LostRow]:
    number = 0
    try:
        for group in range(table.num_row_groups):
            there = table.metadata.row_group(group)
            if not there.num_rows:
                continue
            size = _measure_rows(there, dictionaries, group, pa)
            if size > _AT_ONCE:
                detail = f"the {there.num_rows} rows from here on take {size} bytes each; {_AT_ONCE} are the most"
                yield LostRow(f"row {number + 1}", "length", detail)
                number += there.num_rows
                continue
            rows = max(1, min(_ROWS_AT_ONCE, _AT_ONCE // size))
            for batch in table.iter_batches(batch_size=rows, row_groups=[group]):
                yield from _read_batch(_cut_nanoseconds(batch, pa), number, pa)
                number += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        yield LostRow(f"after row {number}", "end", f"it cannot be read: {first_line(error)}")


def _measure_rows(group: Any, dictionaries: Any, number: int, pa: Any) -> int:
    """About the bytes that one row of a group of rows takes, or more."""
    size = 0
    for column in map(group.column, range(group.num_columns)):
        values = -(-column.num_values // group.num_rows)
        size += max(values * _BYTES_A_VALUE, column.total_uncompressed_size // group.num_rows)
    if size > _AT_ONCE:
        return size
    longest = {}
    for batch in dictionaries.iter_batches(batch_size=1, row_groups=[number]):
        longest = dict(zip(batch.schema.names, (_longest_text(column, pa) for column in batch.columns), strict=True))
        break
    for column in map(group.column, range(group.num_columns)):
        values = -(-column.num_values // group.num_rows)
        size += values * longest.get(column.path_in_schema.partition(".")[0], 0)
    return max(size, 1)


def _longest_text(column: Any, pa: Any) -> int:
    """The bytes of the longest of the texts that the rows of a column may point at."""
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        return pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    if pa.types.is_struct(column.type):
        return max((_longest_text(column.field(n), pa) for n in range(column.type.num_fields)), default=0)
    if pa.types.is_map(column.type):
        return max(_longest_text(column.keys, pa), _longest_text(column.items, pa))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _longest_text(column.values, pa)
    return 0


def _read_batch(batch: Any, before: int, pa: Any) -> Iterator[TableRow | LostRow]:
    """The rows of a batch; `before` is the number of those before it."""
    sizes = [0] * batch.num_rows
    for column in batch.columns:
        for row, size in enumerate(_measure_values(column, pa)):
            sizes[row] += size
    rows: list[Any] | None = None
    if max(sizes) <= _LARGEST_ROW:
        try:
            rows = batch.to_pylist()
        except (pa.ArrowException, ValueError, OverflowError):  # of one row, which is found below
            rows = None
    for row, size in enumerate(sizes):
        place = f"row {before + row + 1}"
        if size > _LARGEST_ROW:
            yield LostRow(place, "length", f"it has {size} bytes; {_LARGEST_ROW} are the most")
            continue
        try:
            fields = rows[row] if rows is not None else batch.slice(row, 1).to_pylist()[0]
            check_depth(fields)
        except MetadataError as error:
            yield LostRow(place, "object", str(error))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            yield LostRow(place, "object", f"a value in it cannot be: {first_line(error)}")
        else:
            yield TableRow(place, fields, size)


def _measure_values(column: Any, pa: Any) -> list[int]:
    """The bytes that each value of a column takes, about."""
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return [_BYTES_A_VALUE] * len(column)
    if pa.types.is_dictionary(kind):
        sizes = _measure_values(column.dictionary, pa)
        return [0 if index is None else sizes[index] for index in column.indices.to_pylist()]
    try:
        return [size or 0 for size in pc.binary_length(column).to_pylist()]
    except pa.ArrowNotImplementedError:  # nested
        if column.nbytes <= _LARGEST_ROW // 2:
            return [column.nbytes // max(1, len(column))] * len(column)
        return [column.slice(row, 1).nbytes for row in range(len(column))]


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
