"""The report: one file that loads nothing, shows what it should, and lets nothing hostile through."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from PIL import Image

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.judge import judge
from clip_qdrant_training.evaluation.recall import embed_pairs, owners
from clip_qdrant_training.evaluation.robustness import IMAGE_CHANGES
from clip_qdrant_training.evaluation.scores import BINS, score_captions
from clip_qdrant_training.evaluation.zero_shot import Labelled
from clip_qdrant_training.output.curves import draw_curves, draw_histogram, plot_curves
from clip_qdrant_training.output.report import run_report, write_report

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {0} {title}"


class Page(HTMLParser):
    """Collects the tags of a document with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, css: str = "") -> int:
        return sum(name == tag and (not css or css in str(attrs.get("class")).split()) for name, attrs in self.tags)

    def charts(self) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == "img" and attrs.get("class") == "chart"]

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Eight plain images; the caption of the red one is that of the blue, and the other way round."""
    said = {"red": "blue", "blue": "red"}
    return [
        Pair(write_image(tmp_path / f"{colour}.png", colour, (400, 300)), (said.get(colour, colour), f"{colour} zebra"))
        for colour in COLOURS
    ]


def log(steps: int = 8) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"kind": "start", "time": 0, "epochs": 2, "steps": steps, "config": {}}]
    for step in range(1, steps + 1):
        rows.append({"kind": "step", "step": step, "loss": 1 / step, "lr": {"heads": 1e-3, "text": 1e-5}})
        rows[-1]["images_per_second"] = 50.0
    for epoch in (1, 2):
        metrics = {f"{way}_recall@{k}": 10.0 * k for way in ("text_to_image", "image_to_text") for k in (1, 5)}
        rows.append({"kind": "epoch", "step": 4 * epoch, "epoch": epoch, "loss": 0.5, "metrics": metrics})
    return [*rows, {"kind": "end"}]


def report(path: Path, pairs: list[Pair], **options: Any) -> Page:
    images, texts = embed_pairs(FakeEmbedder(), pairs)
    given = {"log": log(), "config": {}, "samples": 20, **options}
    run_report(path / "out" / "report.html", images=images, texts=texts, pairs=pairs, **given)
    return Page(path / "out" / "report.html")


def test_a_run_is_shown_with_curves_figures_queries_and_settings(tmp_path: Path, pairs: list[Pair]) -> None:
    page = report(tmp_path, pairs, config={"epochs": 2, "augment": {"crop": [0.5, 1.0]}}, title="My run")
    assert page.text.count("My run") == 2  # title and heading
    assert "judged on 8 images and 16 captions" in page.text
    labels = [str(attrs["alt"]) for attrs in page.charts()]
    assert labels[0] == "loss, recall, learning rate and images per second over the steps"
    assert labels[-1].startswith("similarity")
    assert re.search(r"text to image R@1\d+\.\d \[\d+\.\d, \d+\.\d\]", page.text)
    assert "augment.crop0.5, 1.0" in page.text
    assert "Worst queries" in page.text
    assert page.html.index("Worst queries") < page.html.index("Best queries")


def test_the_worst_query_shows_what_it_found_and_its_own_image(tmp_path: Path, pairs: list[Pair]) -> None:
    page = report(tmp_path, pairs)
    worst = page.html[page.html.index("Worst queries") : page.html.index("Best queries")]
    first = worst.split('class="card query"')[1]
    assert "<q>blue</q>" in first or "<q>red</q>" in first
    rank = re.search(r"its own image is number (\d) of 8", first)
    assert rank is not None
    assert int(rank[1]) >= 5
    own = re.search(r'<figure class="own">.*?<figcaption>(\d+)\. (-?[\d.]+) own</figcaption>', first)
    assert own is not None
    assert own[1] == rank[1]
    assert first.count('class="own"') == 1
    for part in (worst, page.html[page.html.index("Best queries") :]):
        assert part.count('class="card query"') == part.count('class="own"') > 0


def test_images_are_small_jpegs_inside_the_file(tmp_path: Path, pairs: list[Pair]) -> None:
    page = report(tmp_path, pairs)
    charts = {str(attrs["src"]) for attrs in page.charts()}
    sources = set(page.values("src"))
    assert len(charts) == 2 and sources > charts
    for source in sources - charts:
        assert source.startswith("data:image/jpeg;base64,")
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.size == (220, 165)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, pairs: list[Pair]) -> None:
    page = report(tmp_path, pairs)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.values("content")
    assert page.values("href") == []
    assert "http" not in page.html.replace("http-equiv", "")
    assert page.count("script") == page.count("link") == 0


def test_nothing_hostile_gets_through(tmp_path: Path, pairs: list[Pair]) -> None:
    hostile = [Pair(pair.image, (HOSTILE, HOSTILE + "2")) for pair in pairs]
    rows = [*log(), {"kind": "step", "step": 9, "loss": 1, "lr": {HOSTILE: 1.0}}]
    plain = report(tmp_path, pairs)
    page = report(tmp_path, hostile, log=rows, title=HOSTILE, config={HOSTILE: {HOSTILE: HOSTILE}})
    assert page.count("script") == 0
    assert {name for name, _ in page.tags} <= {name for name, _ in plain.tags}
    assert {attribute for _, attrs in page.tags for attribute in attrs} <= {a for _, x in plain.tags for a in x}
    assert HOSTILE in page.text


def test_an_image_that_is_gone_leaves_a_gap_and_not_an_error(tmp_path: Path, pairs: list[Pair]) -> None:
    images, texts = embed_pairs(FakeEmbedder(), pairs)
    Path(pairs[0].image).unlink()
    Path(pairs[1].image).write_text("no image")
    run_report(tmp_path / "r.html", log=[], images=images, texts=texts, pairs=pairs, config={}, samples=0)
    assert "no preview" in Page(tmp_path / "r.html").text


def test_models_stand_side_by_side(tmp_path: Path, pairs: list[Pair]) -> None:
    labelled = [Labelled(pair.image, Path(pair.image).stem) for pair in pairs]
    judgements = [
        judge(FakeEmbedder(name=name), pairs, model=name, samples=20, labelled=labelled, changes=True, clock=True)
        for name in ("one.pt", "two.pt")
    ]
    write_report(tmp_path / "r.html", title="Two", pairs=pairs, judgements=judgements)
    page = Page(tmp_path / "r.html")
    for wanted in ("zero-shot accuracy@1", "jpeg", "images a second", "parameters", "one.pt", "two.pt"):
        assert wanted in page.text
    rows = [row for row in page.html.split("<tr>") if "R@" in row and "R@1 lost" not in row]
    assert len(rows) == 6
    assert all(row.count("<td>") == 3 for row in rows)
    assert "Training" not in page.text


def test_a_model_that_finds_everything_has_no_worst_queries(tmp_path: Path, pairs: list[Pair]) -> None:
    right = [Pair(pair.image, (Path(pair.image).stem,)) for pair in pairs]
    page = report(tmp_path, right)
    assert "Every caption found its own image first." in page.text
    same = np.tile(np.eye(1, 16, dtype=np.float32), (8, 1))
    run_report(tmp_path / "r.html", log=[], images=same, texts=same, pairs=right, config={}, samples=0)
    assert "No caption found its own image first." in Page(tmp_path / "r.html").text


def test_scores_are_counted_apart_for_own_and_other_images(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    judged = judge(clip, pairs, samples=0)
    owner = owners(pairs)
    found = score_captions(judged, owner)
    scores = np.clip(judged.texts @ judged.images.T, -1, 1)
    own = np.array([scores[j, owner[j]] for j in range(16)])
    other = np.array([[scores[j, i] for i in range(8) if i != owner[j]] for j in range(16)])
    assert found.matching == pytest.approx(np.histogram(own, BINS)[0])
    assert found.others == pytest.approx(np.histogram(other, BINS)[0])
    assert found.margin == pytest.approx(own - other.max(axis=1))


def test_vectors_of_other_pairs_and_files_that_cannot_be_written_are_told(tmp_path: Path, pairs: list[Pair]) -> None:
    images, texts = embed_pairs(FakeEmbedder(), pairs)
    given: dict[str, Any] = {"log": [], "pairs": pairs, "config": {}}
    with pytest.raises(ConfigError, match="7 rows of images and 16 of texts for 8 pairs with 16"):
        run_report(tmp_path / "r.html", images=images[:7], texts=texts, **given)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write the report"):
        run_report(tmp_path / "file" / "r.html", images=images, texts=texts, samples=0, **given)


def drawing(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.copy()


@pytest.mark.slow
def test_charts_are_pictures_of_their_size_whatever_the_values() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, 5000)
    logs = {
        "long": [{"kind": "step", "step": step, "loss": loss} for step, loss in enumerate(noise)],
        "single": [{"kind": "step", "step": 1, "loss": 5.0}],
        "flat": [{"kind": "step", "step": step, "loss": 0.0} for step in (1, 2)],
        "broken": [
            {"kind": "step", "step": step, "loss": loss} for step, loss in enumerate((math.nan, math.inf, None, 1.0))
        ],
        "hostile": [{"kind": "step", "step": step, "lr": {"$<b>_\\x": 1.0, "$$": 2.0}} for step in (1, 2)],
    }
    for name, rows in logs.items():
        assert drawing(draw_curves(rows, on_page=True)).size == (1200, 800), name
    bars = draw_histogram("bars", np.linspace(-1, 1, 11), {"x": np.arange(10), "y": np.eye(10)[3]}, x_label="s")
    assert drawing(bars).size == (800, 450)


def test_charts_on_a_page_have_no_ground_and_are_read_in_light_and_dark() -> None:
    for png in (
        draw_curves(log(), on_page=True),
        draw_histogram("", BINS, {"a": np.ones(100)}, x_label="", on_page=True),
    ):
        pixels = np.asarray(drawing(png).convert("RGBA")).reshape(-1, 4)
        assert (pixels[:, 3] == 0).mean() > 0.1
        opaque = pixels[pixels[:, 3] == 255][:, :3].astype(int)
        assert len(opaque) > 500
        # Neither near the white nor near the black of a card, where they would not be seen.
        assert opaque.mean(axis=1).min() > 48 and opaque.mean(axis=1).max() < 208


def test_charts_of_nothing_are_nothing(tmp_path: Path, pairs: list[Pair]) -> None:
    assert draw_histogram("a", BINS, {"b": np.zeros(len(BINS) - 1)}, x_label="x") == b""
    page = report(tmp_path, pairs, log=[{"kind": "start"}, {"kind": "end"}])
    assert [str(attrs["alt"]).split()[0] for attrs in page.charts()] == ["similarity"]
    assert "Training" not in page.html.partition("</header>")[2]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.31), (-5, 1234), (1e-6, 3e-5), (0, 7), (99.9, 100)])
def test_ticks_are_few_and_the_axes_enclose_the_values(low: float, high: float) -> None:
    axes = plot_curves([{"kind": "step", "step": n, "loss": loss} for n, loss in ((1, low), (2, high))]).axes[0]
    bottom, top = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= top]
    assert 3 <= len(ticks) <= 12
    assert bottom <= low < high <= top


def test_without_matplotlib_a_report_has_no_charts_and_says_what_draws_them(
    tmp_path: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = report(tmp_path, pairs)
    told = "drawing the charts of a report needs matplotlib: pip install 'clip-qdrant[train]'"
    assert page.charts() == []
    assert f"The charts are left out: {told}" in page.text
    assert [record.message for record in caplog.records] == [f"the report goes without charts: {told}"]
    assert re.search(r"text to image R@1\d+\.\d \[\d+\.\d, \d+\.\d\]", page.text)
    assert "Worst queries" in page.text


def test_the_examples_of_the_docs_run(tmp_path: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    lines = [json.dumps({"image": str(pair.image), "captions": list(pair.captions)}) for pair in pairs]
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    for label, colour in (("n01", "red"), ("n02", "blue")):
        write_image(tmp_path / "classes" / label / "1.png", colour)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ClipEmbedder, "load", lambda name: FakeEmbedder(name=name))
    for block in blocks:
        exec(compile(block, "evaluation.md", "exec"), {})
    assert len(blocks) == 3
    assert (tmp_path / "mine.html").exists()
    assert (tmp_path / "matches.png").exists()


def test_the_changes_of_the_docs_are_those_that_are_measured() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = docs[docs.index("## Robustness") : docs.index("## Speed")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*IMAGE_CHANGES, "typo"]
