"""Exit codes, mapped once from the error tree, and how an error is told: one `error:` line, then lines of advice."""

from __future__ import annotations

import sys
import traceback

from clip_qdrant import errors
from clip_qdrant.cli.output import printable

__all__ = [
    "BROKEN_PIPE",
    "EXIT_CODES",
    "FAILURE",
    "INTERRUPTED",
    "QUARANTINED",
    "REFUSED",
    "TERMINATED",
    "USAGE",
    "exit_code",
    "print_error",
    "tell",
]

FAILURE = 1
USAGE = 2
QUARANTINED = 6
REFUSED = 7
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143  # 128 + SIGTERM
BROKEN_PIPE = 141  # 128 + SIGPIPE

# The first class that fits decides.
EXIT_CODES: tuple[tuple[type[errors.ClipQdrantError], int], ...] = (
    (errors.ConfigError, USAGE),
    (errors.FilterError, USAGE),
    (errors.QueryError, USAGE),
    (errors.StoreError, 3),
    (errors.ModelError, 4),
    (errors.SourceError, 5),
    (errors.ImageError, 5),
    (errors.ClipQdrantError, FAILURE),
)


def exit_code(error: BaseException) -> int:
    """The exit code of the program that ends with this error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), FAILURE)


def tell(error: BaseException, *, debug: bool) -> None:
    """Writes an error to stderr; its traceback too with `debug`."""
    if debug:
        pages = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        print(*map(printable, pages.splitlines()), sep="\n", file=sys.stderr)
    if isinstance(error, errors.ClipQdrantError):
        print_error(str(error))
    else:
        again = "" if debug else "\nthis is a bug in clip-qdrant: --debug shows where"
        print_error(f"unexpected {type(error).__name__}: {error}{again}")


def print_error(message: str) -> None:
    """One `error:` line and, indented, the others of the message."""
    first, *others = map(printable, message.splitlines() or ["unknown"])
    print(f"error: {first}", *(f"  {line}" for line in others), sep="\n", file=sys.stderr)
