"""What the name of a file tells: the format of a table, and whether it is a tar archive.

Whether a file is compressed, its first bytes tell (`tables.compression`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Literal

from clip_qdrant.tables.compression import COMPRESSION_SUFFIXES

__all__ = ["ARCHIVE_SUFFIXES", "TABLE_SUFFIXES", "TableFormat", "is_archive", "table_format"]

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]

TABLE_SUFFIXES: Mapping[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def table_format(name: str) -> TableFormat | None:
    """The format of the table of this name, with or without .gz or the like; None if its suffix tells none.

    Parquet compresses itself, so .parquet.gz is none.
    """
    stem, suffix = posixpath.splitext(name.lower())
    packed = suffix in COMPRESSION_SUFFIXES
    form = TABLE_SUFFIXES.get(posixpath.splitext(stem)[1] if packed else suffix)
    return None if form == "parquet" and packed else form


def is_archive(name: str) -> bool:
    """Whether a file of this name is a tar archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)
