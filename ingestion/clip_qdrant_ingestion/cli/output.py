"""What `clip-qdrant ingest` shows for people: the plan of a run, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clip_qdrant.cli.output import plain, print_line, print_table
from clip_qdrant.image_names import member_of
from clip_qdrant.tables.suffixes import is_archive, table_format
from clip_qdrant.uris import path_of
from clip_qdrant_ingestion.sources.tree.selection import NO_SUFFIX

if TYPE_CHECKING:
    from clip_qdrant_ingestion import Plan, Quarantined, Report
    from clip_qdrant_ingestion.run.report import LeftOutField

__all__ = ["show_place", "show_plan", "show_report"]

_KINDS = 12  # kinds of other files that are told
_SHOWN = 50  # quarantined objects in the table; --json has them all


def show_plan(plan: Plan, collection: str) -> None:
    """The plan as a table, with the first uris of what would change."""
    rows = [
        ("new", plan.new, "read, embed and store"),
        ("changed", plan.changed, "read and embed anew"),
        ("renamed", plan.renamed, "store under the new name with the vector it has"),
        ("described anew", plan.described, "store caption, metadata or date"),
        ("unchanged", plan.unchanged, "nothing"),
        ("still bad", plan.still_bad, "nothing; --retry-failed reads them again"),
        ("still a duplicate", plan.still_duplicates, "nothing"),
        ("gone, or moved", plan.gone, "delete, with --delete"),
        ("quarantined", len(plan.quarantined), "nothing"),
    ]
    print_table(f"plan for collection {collection}", ("images", ">count", "to do"), rows)
    print_line(f"{plan.listed} listed{'' if plan.complete else '; a part of the source could not be listed'}")
    examples = [(kind, plain(uri)) for kind, uris in plan.examples.items() for uri in uris[:5]]
    if examples:
        print_table("the first of them", ("", "image"), [(kind, show_place(uri)) for kind, uri in examples])
    _show_passed_over(plan.passed_over)
    _show_fields(plan.fields_left_out)
    _show_quarantined(plan.quarantined)


def show_report(report: Report, collection: str, source: str) -> None:
    """The counts of a run over a source, the work of its stages, and what was quarantined."""
    rows = [
        ("listed", report.listed),
        ("added", report.added),
        ("updated", report.updated),
        ("renamed", report.renamed),
        ("copies of others", report.copied),
        ("updated without its vector", report.payload_updated),
        ("unchanged", report.skipped),
        ("left out as duplicates", report.duplicates),
        ("still bad", report.still_bad),
        ("quarantined", len(report.quarantined)),
        ("gone, or moved", report.gone or 0),
        ("deleted", report.deleted),
    ]
    kept = {"listed", "added", "unchanged", "quarantined"}
    shown = [(name, count) for name, count in rows if count or name in kept]
    print_table(f"collection {collection}", ("images", ">count"), shown)
    rate = f", {report.images_per_second:.1f} images/s" if report.added + report.updated else ""
    print_line(f"{report.seconds:.1f} s{rate}{_pace(report)}")
    if not report.listed and not report.interrupted:
        print_line(f"no images in {plain(show_place(source))}{_what_instead(report.passed_over)}")
    _show_passed_over(report.passed_over)
    if report.refused:
        print_line(plain(report.refused))
    elif report.gone and not report.deleted and not report.interrupted:
        are = "image is" if report.gone == 1 else "images are"
        print_line(f"{report.gone} stored {are} no longer where they were; the same with --delete removes them")
    _show_fields(report.fields_left_out)
    _show_quarantined(report.quarantined)


def _show_passed_over(kinds: Mapping[str, int]) -> None:
    """The files that were no images, by kind, the most frequent first."""
    if not kinds:
        return
    found = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = ", ".join(f"{count} {plain(kind)}" for kind, count in found[:_KINDS])
    more = f", {sum(count for _, count in found[_KINDS:])} others" if found[_KINDS:] else ""
    hint = "; --include '*' takes files without a suffix" if NO_SUFFIX in kinds else ""
    print_line(f"not taken for images: {shown}{more}{hint}")


def _what_instead(kinds: Mapping[str, int]) -> str:
    """How to ingest what is there instead of images."""
    archives = sum(count for kind, count in kinds.items() if is_archive(f"a{kind}"))
    tables = sum(count for kind, count in kinds.items() if table_format(f"a{kind}") is not None)
    hints = [f"{archives} tar {'file' if archives == 1 else 'files'}: --kind shards"] * bool(archives)
    hints += [f"{tables} {'table' if tables == 1 else 'tables'}: name the file itself"] * bool(tables)
    return "".join(f"; {hint}" for hint in hints)


def _show_fields(rows: Sequence[LeftOutField]) -> None:
    """The fields that cannot be stored."""
    if rows:
        cells = [(row.field, row.count, show_place(row.uri), row.detail) for row in rows[:_SHOWN]]
        print_table("fields left out", ("field", ">images", "first", "why"), cells)


def _pace(report: Report) -> str:
    """How busy each stage was, the busiest first."""
    if not report.added + report.updated:
        return ""
    stages = sorted(report.stages.items(), key=lambda stage: -stage[1].share)
    return "; busy: " + ", ".join(f"{name} {time.share:.0%}" for name, time in stages)


def _show_quarantined(quarantined: Sequence[Quarantined]) -> None:
    if not quarantined:
        return
    reasons = Counter(row.reason for row in quarantined)
    rows: list[tuple[str, str, str]] = []
    for number, (reason, count) in enumerate(reversed(reasons.most_common())):  # the rare ones leave room to the others
        room = (_SHOWN - len(rows)) // (len(reasons) - number)
        group = [row for row in quarantined if row.reason == reason][:room]
        shown = f"{reason} ({count})" if count > 1 else reason
        rows = [(show_place(row.uri), shown, row.detail) for row in group] + rows
    print_table("quarantined", ("object", "reason", "detail"), rows)
    if len(quarantined) > len(rows):
        summary = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        print_line(f"the first {len(rows)} of {len(quarantined)} ({summary}); --json has them all")


def show_place(uri: str) -> str:
    """The path of a file, in an archive with "#" and its path there; the uri of anything else."""
    path, member = path_of(uri), member_of(uri)
    return uri if path is None else str(path) if member is None else f"{path}#{member}"
