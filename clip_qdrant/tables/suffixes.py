"""What the name of a file tells: the format of a table, whether it is a tar archive, whether it is compressed."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Literal

__all__ = ["ARCHIVE_SUFFIXES", "TABLE_SUFFIXES", "TableFormat", "is_archive", "is_compressed", "table_format"]

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]

TABLE_SUFFIXES: Mapping[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def table_format(name: str) -> TableFormat | None:
    """The format of the table of this name, with or without .gz at its end; None if its suffix tells none.

    Parquet compresses itself, so .parquet.gz is none.
    """
    plain = name.lower().removesuffix(".gz")
    form = TABLE_SUFFIXES.get(posixpath.splitext(plain)[1])
    return None if form == "parquet" and is_compressed(name) else form


def is_archive(name: str) -> bool:
    """Whether a file of this name is a tar archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_compressed(name: str) -> bool:
    """Whether a file of this name is compressed with gzip."""
    return name.lower().endswith((".gz", ".tgz"))
