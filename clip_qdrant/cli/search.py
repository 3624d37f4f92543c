"""`clip-qdrant search`: what is in a collection, by likeness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.columns import choose_columns, fill_rows, path_line
from clip_qdrant.cli.output import (
    place,
    plain,
    print_json,
    print_line,
    print_paths,
    print_table,
    write_text,
)
from clip_qdrant.errors import ConfigError, QueryError, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clip_qdrant.calibration.curves import Calibration
    from clip_qdrant.collection.hits import Hit, Hits
    from clip_qdrant.collection.query import Query
    from clip_qdrant.collection.relevance.scale import MinRelevance
    from clip_qdrant.collection.search.options import Collapse

__all__ = ["score", "search", "show_hits"]

_SHOWN = 200  # characters of a query above a table
_NOT_WEIGHT = 0.5  # a text subtracted whole takes the query to where no image is

_Collection = Annotated[str | None, typer.Option(help="The collection to look in.", metavar="NAME")]
_Where = Annotated[
    str | None, typer.Option(help="Only images this holds for: \"year >= 2022 and album = 'pets'\".", metavar="EXPR")
]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def search(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="What the images should show.", metavar="QUERY")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="An image they should be like; may be repeated.", metavar="FILE")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(help="The part of --image that counts, in pixels of the upright image.", metavar="L,T,R,B"),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="A stored image they should be like, by path, uri or id; may be repeated.", metavar="IMAGE"),
    ] = None,
    away: Annotated[
        list[str] | None, typer.Option("--not", help="What they should not show; may be repeated.", metavar="TEXT")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Words to look for in captions, names, metadata; alone, or beside QUERY.", metavar="WORDS"),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Look for the words of QUERY too, in captions, names and metadata.")
    ] = False,
    text_fields: Annotated[
        str | None,
        typer.Option(help="The fields to look for words in, also weighted: caption=1,album=0.5.", metavar="LIST"),
    ] = None,
    where: _Where = None,
    collection: _Collection = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="The most images to show.", metavar="N")] = 10,
    offset: Annotated[int, typer.Option(help="Leave out the first N.", metavar="N")] = 0,
    score_threshold: Annotated[
        float | None, typer.Option(help="The least cosine similarity, -1 to 1.", metavar="SCORE")
    ] = None,
    min_relevance: Annotated[
        str | None,
        typer.Option(
            help='The least relevance, 0 to 1, of an image; "auto" shows likely matches alone.', metavar="RELEVANCE"
        ),
    ] = None,
    order_by: Annotated[
        str | None,
        typer.Option(help="Order by a field, such as taken_at; -taken_at for the newest first.", metavar="FIELD"),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="How many of the best --order-by, --diversity and --collapse look at.", metavar="N"),
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(help="0 (the most relevant) to 1 (the most different).", metavar="SHARE")
    ] = None,
    collapse: Annotated[
        str | None, typer.Option(help="Show one image of the same bytes, shot or similar.", metavar="LEVEL")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="The best images of each value of a field; --limit values.", metavar="FIELD")
    ] = None,
    group_size: Annotated[int, typer.Option(help="The most images of a group.", metavar="N")] = 3,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all images, also where there is an index.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell where the time went, and what each part of the query gave.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the result as a page with thumbnails too.", metavar="FILE")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="The columns of the table, such as score,taken,path, and any field.", metavar="LIST"),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Print the paths of the images alone, one a line, for other programs.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Search images by a text, by images, or by both together; list all without any of them.

    QUERY, --image and --like add up; --not takes half of a text away.
    """
    settings = wiring.settings_of(context, {"collection": collection})
    if sum((columns is not None, paths, as_json)) > 1:
        raise ConfigError("--columns, --paths and --json each say what to print: give one of them")
    if words and text is not None:
        raise ConfigError("--words looks for the words of QUERY, --text for others: give one of them")
    if words and query is None:
        raise QueryError("--words looks for the words of QUERY: give a text, or --text WORDS")
    if text_fields is not None and not words and text is None:
        raise QueryError("--text-fields says where to look for words: give --words, or --text WORDS too")
    combined, title = _query(query, image or [], _read_box(box, image or []), like or [], away or [], text)
    with wiring.open_existing_collection(settings, texts=query is not None or bool(away)) as images:
        hits = images.search(
            combined,
            where=where,
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            min_relevance=_relevance(min_relevance),
            text=words or text,
            text_fields=_read_text_fields(text_fields),
            order_by=order_by,
            candidates=candidates,
            diversity=diversity,
            collapse=cast("Collapse | None", collapse),
            group_by=group_by,
            group_size=group_size,
            exact=exact,
            explain=explain,
        )
        calibration = images.calibration
        chosen = choose_columns(columns, images.fields)
    if html is not None:
        _write_page(context, html, title, hits, where)
    if paths:
        print_paths(path_line(hit) for hit in hits)
        return
    if as_json:
        document = {"collection": settings.collection, "query": title, "where": where, **hits.to_dict()}
        print_json(document)
        return
    shown = shorten(title, _SHOWN) + (f"  where {shorten(where, _SHOWN)}" if where else "")
    for group in hits.groups:
        show_hits(f"{shown}  {group_by}: {group.value}", group.hits, columns=chosen)
    if not hits.groups:
        show_hits(shown, hits, first=offset + 1, columns=chosen)
    _tell_unlikely(hits, calibration)
    if hits.explanation is not None:
        _print_explanation(hits)
    if html is not None:
        print_line(f"written to {plain(html)}")


def _print_explanation(hits: Hits) -> None:
    for line in str(hits.explanation).splitlines():
        print_line(plain(line))
    for hit in hits:
        told = [f"{name} {part:.3f}" for name, part in hit.parts.items()]
        if len(hit.shares) > 1:
            told += [f"{share:+.3f} {name}" for name, share in hit.shares.items()]
        if told:
            print_line(plain(f"{place(hit)}: {', '.join(told)}"))


def _write_page(context: typer.Context, html: Path, title: str, hits: Hits, where: str | None) -> None:
    from clip_qdrant.model_catalog import suggest_model
    from clip_qdrant.pages.hits import Section, page_html

    summary = f"{len(hits)} image{'' if len(hits) == 1 else 's'}" + (f" where {where}" if where else "")
    sections = [Section(group.hits, heading=str(group.value)) for group in hits.groups] or [Section(hits)]
    better = suggest_model(wiring.settings_of(context).model)
    footer = f"{better}; clip-qdrant models lists some" if better else ""
    previews = _read_previews(context, hits)
    write_text(html, page_html(title, sections, summary=summary, footer=footer, previews=previews))


def show_hits(
    title: str, hits: Sequence[Hit], *, first: int = 1, columns: Mapping[str, str | None] | None = None
) -> None:
    """Hits as a table on stdout."""
    if not hits:
        reason = getattr(hits, "reason", None)
        print_line(f"{plain(title)}: nothing found" + (f"; {plain(reason)}" if reason else ""))
        return
    print_table(title, *fill_rows(hits, columns, first=first))


def score(hit: Hit) -> str:
    """The score of a hit in a table."""
    return "" if hit.score is None else f"{hit.score:.3f}"


def _tell_unlikely(hits: Sequence[Hit], calibration: Calibration | None) -> None:
    """Says so where not even the best hit is a likely match."""
    if any("words" in hit.parts for hit in hits):
        return  # it is there that they match
    known = [hit.relevance for hit in hits if hit.relevance is not None]
    if calibration is not None and known and max(known) < calibration.cutoff:
        print_line(
            f"none of these is likely to match: that takes a relevance of {calibration.cutoff:.3f} "
            "(--min-relevance auto shows nothing less)"
        )


def _relevance(text: str | None) -> MinRelevance | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise QueryError(f'--min-relevance must be a number from 0 to 1 or "auto", not {plain(text)!r}') from None


def _read_text_fields(text: str | None) -> dict[str, float] | None:
    """The weights of fields by name."""
    if text is None:
        return None
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            weights[(name if equals else part).strip()] = float(weight) if equals else 1.0
        except ValueError:
            raise QueryError(
                "--text-fields takes fields with commas between them, each with a weight or without, as in "
                f"caption=1,album=0.5, not {plain(text)!r}"
            ) from None
    return weights


def _read_previews(context: typer.Context, hits: Sequence[Hit]) -> Mapping[str, str]:
    """Previews of the images that are no local files: members of archives, and objects of buckets."""
    if all(hit.path is not None for hit in hits):
        return {}
    from clip_qdrant_ingestion.settings import IngestSettings
    from clip_qdrant_ingestion.sources.previews import make_previews

    settings = wiring.settings_of(context, None, IngestSettings)
    return make_previews(hits, limits=wiring.limits_of(settings), endpoint_url=settings.endpoint_url)


def _read_box(text: str | None, images: list[Path]) -> tuple[float, ...] | None:
    if text is None:
        return None
    if len(images) != 1:
        raise QueryError(f"--box is a part of one --image, and there are {len(images)}")
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise QueryError(f"--box takes left,top,right,bottom in pixels, not {text!r}") from None


def _query(
    text: str | None,
    images: list[Path],
    box: tuple[float, ...] | None,
    like: list[str],
    away: list[str],
    words: str | None,
) -> tuple[Query | None, str]:
    """The query and how to call it; None to list all, or what has the words."""
    from clip_qdrant.collection.query import Query

    parts = [Query.text(text)] if text is not None else []
    parts += [Query.image(path, box=box) for path in images] + [Query.id(name) for name in like]
    if not parts:
        if away:
            raise QueryError("--not leads away from a query: give a text, --image FILE or --like IMAGE too")
        return None, "all images" if words is None else words
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    for unwanted in away:
        total = total - _NOT_WEIGHT * Query.text(unwanted)
    names = [text] if text is not None else []
    names += [f"like {path.name}" for path in images] + [f"like {name}" for name in like]
    names += [words] if words is not None else []
    return total, " and ".join(names) + "".join(f", not {unwanted}" for unwanted in away)
