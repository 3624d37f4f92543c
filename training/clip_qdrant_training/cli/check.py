"""`clip-qdrant train --check`: looks through the data, and trains nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from clip_qdrant.cli.failures import FAILURE
from clip_qdrant.cli.output import print_json, print_line, print_table, stderr_console

if TYPE_CHECKING:
    from clip_qdrant_training import Pair
    from clip_qdrant_training.data.check import DataReport

__all__ = ["check_pairs"]

_SHOWN = 50  # problems in the table; --json has more


def check_pairs(pairs: Sequence[Pair], validation: Sequence[Pair], start: str | None, *, as_json: bool) -> None:
    """Prints what is in the data and what is wrong with it. Exits with 1 if a run could not read all of it."""
    from clip_qdrant_training.data.check import check

    counter = _token_counter(start)
    with _progress() as progress:
        report = check(
            pairs,
            validation=validation,
            count_tokens=counter[0] if counter else None,
            max_tokens=counter[1] if counter else None,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(FAILURE)


def _token_counter(start: str | None) -> tuple[Callable[[str], int], int] | None:
    """How many tokens the start makes of a text, and how many it reads. Of new encoders nothing is known yet."""
    if start is None:
        return None
    from tokenizers import Tokenizer

    from clip_qdrant.model.loading import read_checkpoint

    checkpoint = read_checkpoint(start)
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids), checkpoint.tokenization.max_length


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    from rich import progress as bars

    console = stderr_console()
    with bars.Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _show(report: DataReport) -> None:
    rows = [
        ("images that can be used", f"{report.images:,}"),
        ("captions", f"{report.captions:,}"),
        ("captions an image", f"{report.captions_per_image:g}"),
        ("words of a caption, median and most", f"{report.median_words:g}, {report.longest_words}"),
        ("pixels, median", f"{report.median_width} x {report.median_height}"),
        ("shortest side", f"{report.smallest_side}"),
        ("bytes", f"{report.bytes:,}"),
    ]
    judged = f" and {report.validation_pairs:,} to judge by" if report.validation_pairs else ""
    print_table(f"{report.pairs:,} pairs to train on{judged}", ("", ">"), rows)
    if not report.counts:
        print_line("nothing is wrong with them")
        return
    print_table("problems", ("kind", ">count"), list(report.counts.items()))
    shown = report.problems[:_SHOWN]
    print_table("in detail", ("kind", "where", "what"), [(row.kind, row.where, row.what) for row in shown])
    if sum(report.counts.values()) > len(shown):
        print_line(f"the first {len(shown)} of {sum(report.counts.values()):,}; --json has more")
    if not report.ok:
        print_line("a run would stop at what is missing, unreadable or without a caption")
