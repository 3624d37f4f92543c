"""Judgements as rows of text, one column a model: the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clip_qdrant_training.evaluation.judge import Judgement

__all__ = ["LOST_TITLE", "cell", "cost_rows", "figure_rows", "label", "lost_rows"]

LOST_TITLE = "R@1 lost under changes, in points: text to image / image to text"
_COSTS = (
    ("speed", "images_per_second", "images a second"),
    ("speed", "text_ms", "ms for one text"),
    ("speed", "threads", "threads"),
    ("size", "dim", "length of a vector"),
    ("size", "bytes", "bytes of the file"),
    ("size", "parameters", "parameters"),
)


def figure_rows(judgements: Sequence[Judgement]) -> Iterator[list[str]]:
    """Retrieval and, where it was measured, zero-shot classification."""
    for name in judgements[0].metrics:
        yield [label(name), *(cell(name, each.metrics[name], each.intervals.get(name)) for each in judgements)]
    for name in judgements[0].zero_shot:
        yield [f"zero-shot {label(name)}", *(cell(name, each.zero_shot[name]) for each in judgements)]


def lost_rows(judgements: Sequence[Judgement]) -> Iterator[list[str]]:
    """One row a change, below LOST_TITLE; none where robustness was not measured."""
    for change in judgements[0].robustness:
        lost = (each.robustness[change] for each in judgements)
        yield [change, *(f"{x['text_to_image_recall@1']:.1f} / {x['image_to_text_recall@1']:.1f}" for x in lost)]


def cost_rows(judgements: Sequence[Judgement]) -> Iterator[list[str]]:
    """Speed and size; none where they were not measured."""
    documents = [judged.to_dict() for judged in judgements]
    for part, key, name in _COSTS:
        if part in documents[0]:
            yield [name, *(_amount(document[part][key]) for document in documents)]


def label(name: str) -> str:
    """The name of a figure for people: "text_to_image_recall@1" is "text to image R@1"."""
    return name.replace("_", " ").replace("recall@", "R@").replace("mrr", "MRR")


def cell(name: str, value: float, interval: tuple[float, float] | None = None) -> str:
    """A figure for people, with its 95 % interval if there is one: "25.1 [23.9, 26.3]"."""
    digits = 3 if name.endswith("mrr") else 1
    between = f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""
    return f"{value:.{digits}f}{between}"


def _amount(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}" if isinstance(value, float) else f"{value:,}"
