"""The report: one file that loads nothing, shows what it should, and lets nothing hostile through."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from PIL import Image

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.judge import judge
from clip_qdrant_training.evaluation.queries import BINS, scored
from clip_qdrant_training.evaluation.recall import embed_pairs, owners
from clip_qdrant_training.evaluation.robustness import IMAGE_CHANGES
from clip_qdrant_training.evaluation.zero_shot import Labelled
from clip_qdrant_training.output import charts
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
        rows.append({"kind": "epoch", "epoch": epoch, "loss": 0.5, "metrics": metrics})
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
    labels = page.values("aria-label")
    assert labels[:3] == ["loss", "learning rate", "text to image, percent"]
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
    sources = page.values("src")
    assert sources
    for source in set(sources):
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
    found = scored(judged, owner)
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


def test_charts_are_well_formed_and_stay_in_their_frame() -> None:
    rng = np.random.default_rng(0)
    many = [(float(x), float(y)) for x, y in enumerate(rng.normal(0, 1e-4, 5000))]
    drawings = {
        "long": charts.line_chart("<long>", {"a & b": many, "c": many[:3]}, x_label="step"),
        "single": charts.line_chart("single", {"a": [(1.0, 5.0)]}, x_label="epoch"),
        "flat": charts.line_chart("flat", {"a": [(1.0, 0.0), (2.0, 0.0)]}, x_label="epoch"),
        "broken": charts.line_chart("broken", {"a": [(1.0, math.nan), (2.0, math.inf), (3.0, 1.0)]}, x_label="epoch"),
        "bars": charts.histogram("bars", np.linspace(-1, 1, 11), {"x": np.arange(10), "y": np.eye(10)[3]}, x_label="s"),
    }
    for name, drawing in drawings.items():
        root = ElementTree.fromstring(drawing)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        places = re.findall(r"(-?[\d.]+),(-?[\d.]+)", " ".join(re.findall(r'(?:points|d)="([^"]+)"', drawing)))
        assert places, name
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in places), name
        assert len(places) <= 310, name


def test_charts_of_nothing_are_nothing() -> None:
    assert charts.line_chart("a", {"b": [(1.0, math.nan)], "c": []}, x_label="x") == ""
    assert charts.histogram("a", BINS, {"b": np.zeros(len(BINS) - 1)}, x_label="x") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.31), (-5, 1234), (1e-6, 3e-5), (0, 7), (99.9, 100)])
def test_ticks_are_few_and_enclose_the_values(low: float, high: float) -> None:
    ticks = charts._ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert all(tick == int(tick) for tick in charts._ticks(low, high, about=6, whole=True))


def test_the_examples_of_the_docs_run(tmp_path: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    docs = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
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
    docs = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = docs[docs.index("## Robustness") : docs.index("## Speed")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*IMAGE_CHANGES, "typo"]
