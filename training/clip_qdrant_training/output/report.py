"""A run or some models as one HTML file that loads nothing from elsewhere: curves, figures, best and worst queries.

Captions, names and settings are not trusted: all of it is escaped, and images are shown as small JPEGs made here.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.errors import ConfigError, MissingExtra, TrainingError
from clip_qdrant.pages.template import fill_template, list_values, section_html
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.figures import LOST_TITLE, cost_rows, figure_rows, lost_rows
from clip_qdrant_training.evaluation.judge import Judgement
from clip_qdrant_training.evaluation.recall import bootstrap, measures, owners, ranks
from clip_qdrant_training.evaluation.scores import BINS, score_captions
from clip_qdrant_training.output.curves import draw_curves, draw_histogram, draw_lines, need_matplotlib
from clip_qdrant_training.output.queries import QUERY_STYLE, Thumbnails, queries_html
from clip_qdrant_training.progress import Mix

__all__ = ["run_report", "write_report"]

logger = logging.getLogger(__name__)

_STYLE = (
    """
.chart { display: block; width: 100%; min-width: 460px; }
.card { padding: 14px; }
.wide { overflow-x: auto; }
.half { max-width: 640px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-top: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; color: var(--faint); font-weight: 400; }
thead th { border: 0; color: var(--faint); font-weight: 600; }
td small { color: var(--faint); white-space: nowrap; }
.settings td { text-align: left; }
"""
    + QUERY_STYLE
)


def run_report(
    path: str | Path,
    *,
    log: Iterable[Mapping[str, Any]],
    images: np.ndarray,
    texts: np.ndarray,
    pairs: list[Pair],
    config: Mapping[str, Any],
    mixes: Sequence[Mix] = (),
    title: str = "Training run",
    samples: int = 1000,
) -> None:
    """The report of a training run: `log` are the rows of its log.jsonl, `images` (n, dim) and `texts` (m, dim) the
    unit rows of the validation pairs as the trained model has them, `mixes` those of start and end. Raises
    TrainingError if it cannot be written.
    """
    _check_shapes(images, texts, pairs)
    found = ranks(images, texts, owners(pairs))
    intervals = bootstrap(found, owners(pairs), samples=samples) if samples else {}
    judged = Judgement("trained model", "", images, texts, measures(found), intervals, {}, {})
    write_report(path, title=title, pairs=pairs, judgements=[judged], log=log, config=config, mixes=mixes)


def write_report(
    path: str | Path,
    *,
    title: str,
    pairs: list[Pair],
    judgements: Sequence[Judgement],
    log: Iterable[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    mixes: Sequence[Mix] = (),
) -> None:
    """Writes models judged on the same pairs side by side, with the curves and settings of a run where there are any.

    Without matplotlib a report goes without charts, and says what draws them. Raises TrainingError for a file that
    cannot be written, ConfigError for vectors that are not those of `pairs`.
    """
    for judged in judgements:
        _check_shapes(judged.images, judged.texts, pairs)
    thumbnails = Thumbnails(pairs)
    without_charts = _find_obstacle()
    sections = [_figures(judgements)]
    if without_charts:
        sections.append(section_html("", "", note=without_charts))
    else:
        sections.append(_curves(list(log)))
    sections.append(_mixes(mixes, charts=not without_charts))
    sections += [_model(judged, thumbnails, charts=not without_charts) for judged in judgements]
    sections.append(_settings(config or {}))
    captions = sum(len(pair.captions) for pair in pairs)
    summary = f"judged on {len(pairs):,} images and {captions:,} captions"
    page = fill_template(title, sections, summary=summary, style=_STYLE)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise TrainingError(f"cannot write the report {path}: {error.strerror or error}") from error


def _find_obstacle() -> str:
    """Why there can be no charts; "" where there can."""
    try:
        need_matplotlib("drawing the charts of a report")
    except MissingExtra as error:
        logger.warning("the report goes without charts: %s", error)
        return f"The charts are left out: {error}"
    return ""


def _check_shapes(images: np.ndarray, texts: np.ndarray, pairs: list[Pair]) -> None:
    captions = sum(len(pair.captions) for pair in pairs)
    if (len(images), len(texts)) != (len(pairs), captions):
        raise ConfigError(
            f"there are {len(images)} rows of images and {len(texts)} of texts for {len(pairs)} pairs with {captions} "
            "captions: give the rows of these pairs"
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """A table of plain texts; what stands in brackets behind a figure is set small."""
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = []
    for row in rows:
        cells = []
        for text in row:
            figure, bracket, rest = escape(text).partition(" [")
            cells.append(
                f"<td>{figure}<small>{bracket}{rest}</small></td>"
                if bracket and not css
                else f"<td>{escape(text)}</td>"
            )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    above = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="card wide"><table class="{css}">{above}<tbody>{"".join(lines)}</tbody></table></div>'


def _figures(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ""
    head = ["", *(judged.model for judged in judgements)]
    tables = [_table(head, figure_rows(judgements))]
    for title, rows in ((LOST_TITLE, list(lost_rows(judgements))), ("Speed and size", list(cost_rows(judgements)))):
        if rows:
            tables += [f"<h3>{escape(title)}</h3>", _table(head, rows)]
    some = any(judged.intervals for judged in judgements)
    note = "in brackets 95 % intervals, by drawing images with their captions anew" if some else ""
    return section_html("Figures", "".join(tables), note=note)


def _curves(log: list[Mapping[str, Any]]) -> str:
    """The curves of the rows of a log, where there are steps or epochs among them."""
    if not any(row.get("kind") in ("step", "epoch") for row in log):
        return ""
    title = "loss, recall, learning rate and images per second over the steps"
    return section_html("Training", _chart_html(title, draw_curves(log, on_page=True)))


def _mixes(mixes: Sequence[Mix], *, charts: bool) -> str:
    """The recall of each mix of start and end, as a table and as curves."""
    if not mixes:
        return ""
    best = max(mixes, key=lambda mix: sum(mix.metrics.values()))
    names = list(mixes[0].metrics)
    head = ["share of the end", *(name.replace("_recall", "").replace("_", " ") for name in names)]
    rows = [
        [f"{mix.share:g}{' (best)' if mix is best else ''}", *(f"{mix.metrics[name]:.1f}" for name in names)]
        for mix in mixes
    ]
    curves = {label: [mix.metrics[name] for mix in mixes] for label, name in zip(head[1:], names, strict=True)}
    title = "recall on the validation pairs by the share of the end, percent"
    chart = draw_lines(title, [mix.share for mix in mixes], curves, on_page=True) if charts else b""
    note = "weights are (1 - share) x start + share x end (WiSE-FT)"
    table = _table(head, rows)
    return section_html(
        "Mixes of start and end", (_chart_html(title, chart, "half") if chart else "") + table, note=note
    )


def _chart_html(title: str, png: bytes, css: str = "") -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<div class="card wide {css}"><img class="chart" src="{source}" alt="{escape(title)}"></div>'


def _model(judged: Judgement, thumbnails: Thumbnails, *, charts: bool) -> str:
    owner = owners(thumbnails.pairs)
    found = score_captions(judged, owner)
    title, counts = "similarity of captions and images, share in percent", {"own image": found.matching}
    counts["other images"] = found.others
    chart = draw_histogram(title, BINS, counts, x_label="cosine", on_page=True) if charts else b""
    worst = np.lexsort((found.margin, -found.rank))
    best = np.argsort(-found.margin, kind="stable")
    parts = [
        _chart_html(title, chart, "half") if chart else "",
        "<h3>Worst queries</h3>",
        queries_html(judged, thumbnails, owner, worst[found.rank[worst] > 1], found.rank)
        or '<p class="note">Every caption found its own image first.</p>',
        "<h3>Best queries</h3>",
        queries_html(judged, thumbnails, owner, best[found.rank[best] == 1], found.rank)
        or '<p class="note">No caption found its own image first.</p>',
    ]
    note = f"fingerprint {judged.fingerprint[:12]}" if judged.fingerprint else ""
    return section_html(judged.model, "".join(parts), note=note)


def _settings(config: Mapping[str, Any]) -> str:
    rows = list(list_values(config))
    return section_html("Settings", _table((), rows, "settings")) if rows else ""
