"""Line charts and histograms as inline SVG: text to put into an HTML page, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

__all__ = ["STYLE", "histogram", "line_chart"]

# Okabe and Ito's palette, told apart by the colour-blind too, in an order that keeps neighbours distinct.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a90")
STYLE = (
    ".chart{width:100%;height:auto;display:block}.chart text{fill:var(--faint);font-size:11px}"
    ".chart .grid{stroke:var(--line)}.chart .title{fill:var(--text);font-size:13px;font-weight:600}"
    + "".join(f".c{i}{{--c:{colour}}}" for i, colour in enumerate(_COLOURS))
    + ".chart .curve{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}"
    ".chart .dot,.chart .key{fill:var(--c)}.chart .bars{fill:var(--c);fill-opacity:.35;stroke:var(--c)}"
)

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 46, 26
_POINTS = 300  # of one curve: more are not seen at this size
_DOTS = 40  # up to so many points each gets a dot

Series = Mapping[str, Sequence[tuple[float, float]]]


def line_chart(title: str, series: Series, *, x_label: str) -> str:
    """Curves by name, each a sequence of (x, y), x being counted. "" where there is nothing to draw.

    Values that are no numbers are left out. Long curves are drawn as the means of neighbouring points.
    """
    curves = {name: _thinned([(x, y) for x, y in points if math.isfinite(y)]) for name, points in series.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return ""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    frame = _Frame((min(xs), max(xs)), (min(ys), max(ys)), whole=True)
    parts = []
    for number, points in enumerate(curves.values()):
        places = [(frame.x(x), frame.y(y)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in places)
        curve = f'<polyline class="curve" points="{line}"/>{dots if len(points) <= _DOTS else ""}'
        parts.append(f'<g class="c{number % len(_COLOURS)}">{curve}</g>')
    return _svg(title, frame, x_label, list(curves), "".join(parts))


def histogram(title: str, edges: np.ndarray, counts: Mapping[str, np.ndarray], *, x_label: str) -> str:
    """Histograms over the same bins, each as shares in percent; "" where all are empty. There is one edge more."""
    total = sum(np.asarray(each) for each in counts.values())
    used = np.flatnonzero(total)
    if not len(used):
        return ""
    bins = slice(int(used[0]), int(used[-1]) + 1)
    shares = {name: 100 * each[bins] / max(each.sum(), 1) for name, each in counts.items()}
    left, right = edges[:-1][bins], edges[1:][bins]
    frame = _Frame((float(left[0]), float(right[-1])), (0.0, max(float(share.max()) for share in shares.values())))
    parts = []
    for number, share in enumerate(shares.values()):
        steps = [f"M{frame.x(float(left[0])):.1f},{frame.y(0):.1f}"]
        for start, end, value in zip(left, right, share, strict=True):
            height = frame.y(float(value))
            steps.append(f"L{frame.x(float(start)):.1f},{height:.1f}L{frame.x(float(end)):.1f},{height:.1f}")
        steps.append(f"L{frame.x(float(right[-1])):.1f},{frame.y(0):.1f}Z")
        parts.append(f'<path class="bars c{number % len(_COLOURS)}" d="{"".join(steps)}"/>')
    return _svg(title, frame, x_label, list(shares), "".join(parts))


class _Frame:
    """From values to places in the picture, with round ticks that enclose the values."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, whole: bool = False) -> None:
        self.x_ticks = _ticks(*x, about=6, whole=whole)
        self.y_ticks = _ticks(*y)
        self._x = x if x[0] < x[1] else (x[0] - 0.5, x[1] + 0.5)
        self._y = min(y[0], self.y_ticks[0]), max(y[1], self.y_ticks[-1])
        if self._y[0] == self._y[1]:
            self._y = self._y[0] - 0.5, self._y[1] + 0.5

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _svg(title: str, frame: _Frame, x_label: str, names: Sequence[str], drawn: str) -> str:
    grid = []
    for tick in frame.y_ticks:
        y = frame.y(tick)
        grid.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        grid.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in frame.x_ticks:
        x = frame.x(tick)
        if _LEFT - 1 <= x <= _WIDTH - _RIGHT - 70:  # the label of the axis stands at the right end
            grid.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{tick:g}</text>')
    label = f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x_label)}</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{_LEFT}" y="16">{escape(title)}</text>{_legend(names)}'
        f"{''.join(grid)}{label}{drawn}</svg>"
    )


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    parts, x = [], float(_LEFT)
    for number, name in enumerate(names):
        parts.append(f'<rect class="key c{number % len(_COLOURS)}" x="{x:.0f}" y="25" width="10" height="10" rx="2"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="34">{escape(name)}</text>')
        x += 28 + 6.2 * len(name)  # about the width of a letter of 11 pixels
    return "".join(parts)


def _ticks(low: float, high: float, *, about: int = 4, whole: bool = False) -> list[float]:
    """About so many round numbers from at most `low` to at least `high`; one where there is no width."""
    if not low < high:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    step = math.ceil(step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _POINTS:
        return list(points)
    parts = np.array_split(np.asarray(points, dtype=np.float64), _POINTS)
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]
