"""Matches: the nearest images, each once, and a picture of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, solid_image, write_image
from PIL import Image

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.matches import Match, find_matches
from clip_qdrant_training.output.grid import draw_matches


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    return [
        Pair(write_image(tmp_path / f"{colour}.png", colour, (60, 40)), (f"all {colour}", f"only {colour}"))
        for colour in COLOURS
    ]


def test_the_nearest_images_come_first_with_score_and_captions(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    found = find_matches(clip, pairs, "red", n=3)
    assert found[0] == Match(pairs[0].image, found[0].score, ("all red", "only red"))
    assert found[0].score == pytest.approx(1)
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert {Path(match.image).stem for match in found[1:]} == {"yellow", "magenta"}
    scores = clip.embed_images(pair.image for pair in pairs) @ clip.embed_texts(["red"])[0]
    assert [match.score for match in found] == pytest.approx(sorted(scores, reverse=True)[:3])


def test_an_image_in_several_rows_is_found_once_with_all_its_captions(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    rows = [(pair.image, caption) for pair in pairs for caption in pair.captions] + [(pairs[0].image, "all red")]
    found = find_matches(clip, rows, "red", n=20)
    assert clip.image_calls == [len(pairs)]
    assert len(found) == len(pairs)
    assert found[0].captions == ("all red", "only red")


def test_images_without_captions_and_rows_at_hand_do_too(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    images = [pair.image for pair in pairs]
    rows = clip.embed_images(images)
    clip.image_calls.clear()
    [found] = find_matches(clip, [*images, images[1]], "green", n=1, vectors=np.concatenate([rows, rows[1:2]]))
    assert (found.image, found.captions) == (images[1], ())
    assert clip.image_calls == []
    [pixels] = find_matches(clip, [solid_image("red"), solid_image("blue")], "blue", n=1)
    assert pixels.score == pytest.approx(1)


def test_what_cannot_be_asked_is_told(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    with pytest.raises(ConfigError, match="n is 0"):
        find_matches(clip, pairs, "red", n=0)
    with pytest.raises(ConfigError, match=r"vectors are \(3, 16\), expected \(8, 16\)"):
        find_matches(clip, pairs, "red", vectors=np.zeros((3, 16)))
    with pytest.raises(TrainingError, match="no images"):
        find_matches(clip, [], "red")
    with pytest.raises(TrainingError, match="nothing to rank"):
        find_matches(clip, pairs, "red", vectors=np.full((8, 16), np.nan))


def test_the_grid_shows_each_image_in_its_place(tmp_path: Path, pairs: list[Pair]) -> None:
    found = find_matches(FakeEmbedder(), pairs, "red", n=4)
    draw_matches(found, tmp_path / "out" / "grid.png")
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.format == "PNG"
        width, height = grid.size
        for number, match in enumerate(found):
            row, column = divmod(number, 2)
            middle = (column * (width // 2) + width // 4, row * (height // 2) + 12 + 112)
            assert grid.getpixel(middle) == COLOURS[Path(match.image).stem]


def test_a_long_caption_a_wide_word_and_no_caption_stay_below_their_image(tmp_path: Path) -> None:
    captions = (("word " * 100,), ("x" * 500,), ("日本語の文" * 60,), ())
    matches = [Match(solid_image("blue", (500, 300)), -0.5, texts) for texts in captions]
    draw_matches(matches, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        pixels = np.asarray(grid)
    gaps = (pixels.shape[1] // 2 - 4, pixels.shape[1] // 2 + 4)  # between the columns
    assert (pixels[:, slice(*gaps)] == 255).all()
    assert (pixels[-8:] == 255).all()


def test_a_grid_that_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no matches"):
        draw_matches([], tmp_path / "grid.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write the grid"):
        draw_matches([Match(solid_image("red"), 1.0, ())], tmp_path / "file" / "grid.png")
