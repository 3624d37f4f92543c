"""What commands print: tables for people, JSON for programs. rich is imported only where a table is drawn.

Captions, names and metadata come from files and servers. Whatever a terminal would act on is replaced before it gets
there, and file names that are no UTF-8 come out with a replacement character. Secrets in URLs are masked in all that
is printed, JSON included.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.image_names import member_of
from clip_qdrant.uris import path_of
from clip_qdrant.url_secrets import mask_document, mask_secrets

if TYPE_CHECKING:
    from rich.console import Console

    from clip_qdrant.collection.hits import Hit

__all__ = [
    "metadata_text",
    "place",
    "plain",
    "print_json",
    "print_line",
    "print_paths",
    "print_table",
    "printable",
    "stderr_console",
    "stdout_console",
    "write_text",
]

_PIPE_WIDTH = 200  # columns of a table that goes into a file or a pipe


def plain(value: object) -> str:
    """A value as one line of printable text."""
    return printable(" ".join(str(value).split()))


def printable(line: str) -> str:
    """A line without what a terminal acts on; its spaces stay, for a caret below it to point at the right column.

    Secrets in URLs are masked.
    """
    line = mask_secrets(line)
    return line if line.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def place(hit: Hit) -> str:
    """Where an image is: its path, from the working folder where that is shorter, or its uri.

    An image in a local archive is the path of that, "#" and its own path there.
    """
    path = path_of(hit.uri.partition("#")[0])
    if path is None:
        return plain(hit.uri)
    member = member_of(hit.uri)
    end = "" if member is None else f"#{member}"
    try:
        return plain(f"{path.relative_to(Path.cwd())}{end}")
    except (ValueError, OSError):
        return plain(f"{path}{end}")


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Metadata in a cell of a table: `year=2024 tags=cat, dog`."""
    return plain("  ".join(f"{name}={_value(value)}" for name, value in metadata.items()))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + metadata_text(value) + "}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    as_it_is = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(mask_document(document), indent=2, ensure_ascii=not as_it_is, default=_json)
    print(text)


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_paths(lines: Iterable[str]) -> None:
    """Names of files for other programs, one a line, byte for byte where stdout takes bytes."""
    stream = getattr(sys.stdout, "buffer", None)
    for line in lines:
        if stream is None:
            print(line)
        else:
            stream.write(os.fsencode(line) + b"\n")
    sys.stdout.flush()


def print_line(text: str, *, error: bool = False) -> None:
    """One line on stdout, or on stderr where stdout is for JSON."""
    print(mask_secrets(text), file=sys.stderr if error else None)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns named with a leading ">" are aligned right. Colours only on a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console(stderr=False)
    style = box.ROUNDED if console.is_terminal and console.encoding.startswith("utf") else box.ASCII
    table = Table(box=style, show_edge=console.is_terminal)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console.print(Text(plain(title), style="bold"), table, sep="\n")


def stderr_console() -> Console:
    """Where progress is drawn."""
    return _console(stderr=True)


def stdout_console() -> Console:
    """Where a table that grows is drawn."""
    return _console(stderr=False)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=stderr)


def write_text(path: Path, text: str) -> None:
    """Writes a file that the user asked for. Raises ConfigError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise ConfigError(f"cannot write {plain(path)}: {error.strerror or error}") from error
