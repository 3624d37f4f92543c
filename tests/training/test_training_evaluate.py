"""Ranks, measures and their intervals agree with the definitions, by slow ways that are plainly right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.recall import (
    Ranks,
    bootstrap,
    embed_pairs,
    evaluate,
    measures,
    owners,
    ranks,
    recall,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 images with one to six captions each, near enough to be found sometimes."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    images = unit(rng.normal(size=(60, 8)))
    return images, unit(images[owner] + 0.5 * rng.normal(size=(len(owner), 8))), owner


def test_ranks_equal_a_sort_one_query_at_a_time(vectors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    images, texts, owner = vectors
    found = ranks(images, texts, owner)
    for j in range(len(texts)):
        order = np.argsort(-(images @ texts[j]))
        assert found.text_to_image[j] == 1 + list(order).index(owner[j])
    for i in range(len(images)):
        order = np.argsort(-(texts @ images[i]))
        foreign_ahead = list(owner[order]).index(i)
        assert found.image_to_text[i] == 1 + foreign_ahead
    assert found.text_to_image.dtype == found.image_to_text.dtype == np.int64


def test_many_queries_are_ranked_as_few_are(vectors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    images, texts, owner = vectors
    several = np.concatenate([texts] * 10)  # more than are scored at once
    found = ranks(images, several, np.concatenate([owner] * 10))
    assert len(several) > 1024
    assert (found.text_to_image.reshape(10, -1) == ranks(images, texts, owner).text_to_image).all()


def test_measures_of_known_ranks() -> None:
    found = measures(Ranks(np.array([1, 2, 4, 20]), np.array([1, 6, 10])))
    assert found == {
        "text_to_image_recall@1": 25.0,
        "text_to_image_recall@5": 75.0,
        "text_to_image_recall@10": 75.0,
        "image_to_text_recall@1": pytest.approx(100 / 3),
        "image_to_text_recall@5": pytest.approx(100 / 3),
        "image_to_text_recall@10": 100.0,
        "text_to_image_median_rank": 3.0,
        "text_to_image_mrr": pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 20) / 4),
        "image_to_text_median_rank": 6.0,
        "image_to_text_mrr": pytest.approx((1 + 1 / 6 + 1 / 10) / 3),
    }


def test_recall_is_the_recall_of_the_measures(vectors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    images, texts, owner = vectors
    every = measures(ranks(images, texts, owner))
    assert recall(images, texts, owner) == {name: value for name, value in every.items() if "recall" in name}


def test_a_bootstrap_equals_one_that_copies_images_and_captions(
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    found = ranks(*vectors)
    owner = vectors[2]
    rng = np.random.default_rng(5)
    drawn: dict[str, list[float]] = {}
    for picks in rng.integers(60, size=(200, 60)):
        texts = np.concatenate([found.text_to_image[owner == image] for image in picks])
        for name, value in measures(Ranks(texts, found.image_to_text[picks])).items():
            drawn.setdefault(name, []).append(value)
    intervals = bootstrap(found, owner, samples=200, seed=5)
    assert set(intervals) == set(drawn)
    for name, values in drawn.items():
        assert intervals[name] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_a_bootstrap_in_parts_draws_what_one_in_a_piece_does(
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, owner = ranks(*vectors), vectors[2]
    whole = bootstrap(found, owner, samples=50)
    module = sys.modules[bootstrap.__module__]  # the package has a function of that name
    monkeypatch.setattr(module, "_CELLS", 7 * len(owner))
    parts = bootstrap(found, owner, samples=50)
    assert np.array(list(parts.values())) == pytest.approx(np.array(list(whole.values())))


def test_an_interval_covers_what_it_should() -> None:
    """200 images whose captions hit together, with chance 0.3: the interval has the true recall 95 times of 100."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(200), 5)
    covered = 0
    for trial in range(100):
        hit = rng.random(200) < 0.3
        found = Ranks(np.where(hit, 1, 99)[owner], np.where(hit, 1, 99))
        low, high = bootstrap(found, owner, samples=200, seed=trial)["text_to_image_recall@1"]
        covered += low <= 30 <= high
    assert 89 <= covered <= 99


def test_captions_of_one_image_do_not_count_as_independent() -> None:
    hit = np.arange(200) % 2 == 0
    alone = Ranks(np.where(hit, 1, 99), np.where(hit, 1, 99))
    owner = np.repeat(np.arange(200), 5)
    five = Ranks(alone.text_to_image[owner], alone.image_to_text)
    of_one = bootstrap(alone, np.arange(200))["text_to_image_recall@1"]
    of_five = bootstrap(five, owner)["text_to_image_recall@1"]
    assert of_five == pytest.approx(of_one)
    assert of_one[1] - of_one[0] > 10


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples is 1"):
        bootstrap(Ranks(np.ones(3, int), np.ones(3, int)), np.arange(3), samples=1)


def test_vectors_that_are_no_numbers_are_refused() -> None:
    broken = np.full((3, 4), np.nan, np.float32)
    with pytest.raises(TrainingError, match="nothing to rank"):
        ranks(broken, broken, np.arange(3))


def test_evaluate_takes_a_path_and_pairs_alike(tmp_path: Path) -> None:
    rows, pairs = [], []
    for colour in COLOURS:
        path = write_image(tmp_path / f"{colour}.png", colour)
        rows.append(json.dumps({"image": path.name, "captions": [colour, f"{colour} zebra"]}))
        pairs.append(Pair(path, (colour, f"{colour} zebra")))
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    clip = FakeEmbedder()
    found = evaluate(clip, tmp_path / "pairs.jsonl")
    assert found == evaluate(clip, pairs) == recall(*embed_pairs(clip, pairs), owners(pairs))
    assert found["text_to_image_recall@1"] == 100
    assert list(found) == [f"{way}_recall@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
