"""A look through the data finds what would stop a run or spoil what it measures, and counts the rest."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from fakes import write_image
from PIL import Image

from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant_training.data.check import DataReport, Kind, check
from clip_qdrant_training.data.pairs import Pair


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def saved(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> Path:
    picture(seed, size).save(path)
    return path


def rows(report: DataReport) -> list[tuple[str, str, str]]:
    return [(problem.kind, Path(problem.where).name, problem.what) for problem in report.problems]


def test_clean_data_has_no_problems_and_its_figures(tmp_path: Path) -> None:
    pairs = [
        Pair(saved(tmp_path / f"{n}.png", n, (96 + n, 64)), (f"picture {n}", f"the {n} th of five")) for n in range(5)
    ]
    steps: list[tuple[str, int, int]] = []
    report = check(pairs, progress=lambda *step: steps.append(step), threads=2)
    assert report.ok
    assert report.problems == ()
    assert (report.pairs, report.images, report.captions, report.captions_per_image) == (5, 5, 10, 2.0)
    assert (report.median_words, report.longest_words) == (3.5, 5)
    assert (report.median_width, report.median_height, report.smallest_side) == (98, 64, 64)
    assert report.bytes == sum(pair.image.stat().st_size for pair in pairs)
    assert steps == [("images", done, 5) for done in range(1, 6)]


@dataclass(frozen=True)
class Broken:
    """An image of the user's own."""

    error: Exception

    def read(self) -> bytes:
        raise self.error

    def __str__(self) -> str:
        return "mine"


def test_images_that_are_missing_or_cannot_be_read_are_told_with_the_reason(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", 1)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ("whole.png", "gone.png", "cut.png", "text.png", "empty.png")
    pairs = [Pair(tmp_path / name, (name,)) for name in names]
    report = check([*pairs, Pair(Broken(KeyError("x")), ("a",)), Pair(Broken(SourceError("away")), ("b",))])
    assert not report.ok
    assert [(kind, where, what.split(":")[0]) for kind, where, what in rows(report)] == [
        ("missing", "gone.png", f"cannot read {tmp_path / 'gone.png'}"),
        ("unreadable", "cut.png", "truncated"),
        ("unreadable", "text.png", "not an image"),
        ("unreadable", "empty.png", "empty"),
        ("unreadable", "mine", "KeyError"),
        ("unreadable", "mine", "away"),
    ]
    assert report.counts == {"missing": 1, "unreadable": 5}
    assert report.images == 1


def test_tiny_images_are_told_and_stop_nothing(tmp_path: Path) -> None:
    report = check([Pair(saved(tmp_path / f"{side}.png", side, (80, side)), ("a",)) for side in (31, 32)])
    assert [row for row in rows(report) if row[0] == "tiny image"] == [
        ("tiny image", "31.png", "80 x 31 pixels, and a side needs 32")
    ]
    assert report.ok


def test_copies_and_similar_images_are_told_against_the_first(tmp_path: Path) -> None:
    first = saved(tmp_path / "a.png", 1)
    shutil.copy(first, tmp_path / "copy.png")
    picture(1).save(tmp_path / "similar.bmp")  # the same picture, other bytes
    saved(tmp_path / "other.png", 2)
    names = ("a.png", "copy.png", "similar.bmp", "other.png", "a.png")
    report = check([Pair(tmp_path / name, (f"caption {n}",)) for n, name in enumerate(names)])
    assert rows(report) == [
        ("duplicate image", "copy.png", f"the same image as {first}"),
        ("similar image", "similar.bmp", f"looks like {first}"),
        ("duplicate image", "a.png", f"the same image as {first}"),
    ]
    assert report.images == 3


def test_plain_pictures_are_not_similar_to_each_other(tmp_path: Path) -> None:
    pairs = [Pair(write_image(tmp_path / f"{name}.png", name, (64, 64)), (name,)) for name in ("red", "green", "blue")]
    assert rows(check(pairs)) == []


def test_an_image_of_both_train_and_validation_is_a_leak(tmp_path: Path) -> None:
    train = [Pair(saved(tmp_path / f"{n}.png", n), (f"number {n}",)) for n in range(3)]
    shutil.copy(tmp_path / "1.png", tmp_path / "renamed.png")
    picture(2).save(tmp_path / "recoded.bmp")
    names = ("renamed.png", "recoded.bmp", "gone.png", "fresh.png")
    saved(tmp_path / "fresh.png", 9)
    report = check(train, validation=[Pair(tmp_path / name, (name,)) for name in names])
    assert rows(report) == [
        ("missing", "gone.png (validation)", f"cannot read {tmp_path / 'gone.png'}: No such file or directory"),
        ("leak", "renamed.png (validation)", f"the same image as {tmp_path / '1.png'}"),
        ("similar leak", "recoded.bmp (validation)", f"looks like {tmp_path / '2.png'}"),
    ]
    assert (report.pairs, report.validation_pairs) == (3, 4)


def test_captions_of_several_images_are_counted_the_most_frequent_first(tmp_path: Path) -> None:
    pairs = [
        Pair(saved(tmp_path / f"{n}.png", n), ("A dog.", "a dog", *(("Two  cats",) if n < 2 else ("a bird", f"{n}"))))
        for n in range(3)
    ]
    pairs.append(Pair(tmp_path / "2.png", ("a BIRD",)))  # the same image again: no other that shares it
    report = check(pairs)
    shared = [row for row in rows(report) if row[0] == "shared caption"]
    assert shared == [
        ("shared caption", "A dog.", "describes 3 images"),
        ("shared caption", "Two  cats", "describes 2 images"),
    ]
    assert report.counts["shared caption"] == 2
    assert report.ok


def test_captions_that_are_empty_or_too_long_are_told(tmp_path: Path) -> None:
    pairs = [
        Pair(saved(tmp_path / "a.png", 1), ("one two three four", "one two three")),
        Pair(saved(tmp_path / "b.png", 2), ()),
        Pair(saved(tmp_path / "c.png", 3), ("fine", " ")),
    ]
    report = check(pairs, count_tokens=lambda text: len(text.split()), max_tokens=3)
    assert rows(report) == [
        ("long caption", "a.png", "4 tokens, of which the model sees 3: one two three four"),
        ("no caption", "b.png", "there is none"),
        ("no caption", "c.png", "the caption is ' '"),
    ]
    assert not report.ok
    assert report.captions == 3
    with pytest.raises(ConfigError, match="both count_tokens and max_tokens"):
        check(pairs, max_tokens=3)


def test_many_problems_are_all_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    report = check([Pair(tmp_path / f"{n}.png", (f"number {n}",)) for n in range(30)], rows=4, threads=3)
    assert report.counts == {"missing": 30}
    assert [where for _, where, _ in rows(report)] == ["0.png", "1.png", "2.png", "3.png"]
    with pytest.raises(ConfigError, match="threads is 0"):
        check([], threads=0)


def test_a_report_is_json(tmp_path: Path) -> None:
    report = check(
        [Pair(tmp_path / "gone.png", ("a",)), Pair(picture(1), ("b",))], validation=[Pair(picture(1), ("c",))]
    )
    told = json.loads(json.dumps(report.to_dict()))
    assert told["ok"] is False
    assert told["counts"] == {"missing": 1, "leak": 1}
    assert told["problems"][1] == {
        "kind": "leak",
        "where": "the image of pair 0 (validation)",
        "what": "the same image as the image of pair 1",
    }
    assert check([]).to_dict()["pairs"] == 0


def test_the_docs_explain_every_kind_of_problem() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training-data.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in page for kind in get_args(Kind))
