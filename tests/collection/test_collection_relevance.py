"""Hit.relevance, min_relevance and calibrate(): likely matches alone, and an empty answer that says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.calibration.curves import LEVELS, Calibration, measure_calibration
from clip_qdrant.calibration.improbable_texts import IMPROBABLE_TEXTS
from clip_qdrant.calibration.rounding import show_relevance
from clip_qdrant.collection.edit.classify import Label
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query, embed_query_texts
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError
from clip_qdrant.model_inputs.prompts import Prompts

# As if texts and images were never more than 0.5 alike at random.
KNOWN = Calibration(tuple(0.5 * level for level in LEVELS), tuple(0.9 * level for level in LEVELS), 0.98)


@pytest.fixture
def embedder() -> FakeEmbedder:
    made = FakeEmbedder()
    made.calibration = KNOWN  # type: ignore[attr-defined]  # an embedder may have one
    return made


@pytest.fixture
def photos(client: QdrantBase, tmp_path: Path, embedder: FakeEmbedder) -> ImageCollection:
    collection = ImageCollection("photos", embedder, client)
    collection.add([write_image(tmp_path / f"{colour}.png", colour) for colour in COLOURS])
    return collection


def test_each_hit_says_how_many_random_pairs_are_less_alike(photos: ImageCollection) -> None:
    for hit in photos.search("red"):
        assert hit.score is not None
        assert hit.relevance == pytest.approx(min(1, max(0, hit.score / 0.5)), abs=1e-3)


def test_images_are_measured_by_images(photos: ImageCollection, tmp_path: Path) -> None:
    for query in (tmp_path / "red.png", Query.id(tmp_path / "red.png")):
        for hit in photos.search(query):
            assert hit.score is not None
            assert hit.relevance == pytest.approx(min(1, max(0, hit.score / 0.9)), abs=1e-3)


def test_what_nobody_can_measure_has_no_relevance(photos: ImageCollection) -> None:
    vector = photos.embedder.embed_texts(["red"])[0]

    assert photos.search(vector)[0].relevance is None
    assert photos.search()[0].relevance is None
    with pytest.raises(QueryError, match=r"Query\.vector"):
        photos.search(vector, min_relevance=0.5)


def test_examples_have_a_relevance_where_their_scores_are_cosines(photos: ImageCollection) -> None:
    likely = SearchOptions(min_relevance="auto")

    found = photos.search("red", min_relevance="auto")
    assert [hit.id for hit in photos.recommend(["red"], options=likely)] == [hit.id for hit in found] != []
    refusal = "min_relevance='auto' is for scores that are cosine similarities.*recommend with strategy=\"average\""
    for ask in (
        lambda: photos.recommend(["red"], strategy="best", options=likely),
        lambda: photos.recommend(["red"], strategy="sum", options=likely),
        lambda: photos.discover("red", [("red", "blue")], options=likely),
    ):
        with pytest.raises(QueryError, match=refusal):
            ask()
    assert photos.discover("red", [("red", "blue")])[0].relevance is None


def test_the_least_relevance_leaves_out_the_rest(photos: ImageCollection) -> None:
    every = photos.search("red")
    likely = photos.search("red", min_relevance="auto")

    assert 0 < len(likely) < len(every)
    assert [hit.id for hit in likely] == [hit.id for hit in every if (hit.relevance or 0) >= KNOWN.cutoff]
    assert len(photos.search("red", min_relevance=0)) == len(every)
    assert len(photos.search("red", min_relevance=0.5, score_threshold=0.99)) <= len(likely)


def test_a_text_is_measured_by_what_is_left_of_it_without_the_bias(
    photos: ImageCollection, embedder: FakeEmbedder
) -> None:
    embedder.prompts = Prompts(("{}",), bias=(0.5, 0.1, *[0.0] * 14))  # type: ignore[attr-defined]  # it may have some
    [strength] = np.linalg.norm(embed_query_texts(["red"], embedder, unit=False), axis=1)
    assert strength < 0.9
    every = photos.search("red")
    for hit in every:
        assert hit.score is not None
        assert hit.relevance == pytest.approx(KNOWN.relevance(hit.score * strength), abs=1e-3)
    for asked in (0.3, 0.6, 0.9):
        found = photos.search("red", min_relevance=asked)
        assert [hit.id for hit in found] == [hit.id for hit in every if (hit.relevance or 0) >= asked]

    [other] = np.linalg.norm(embed_query_texts(["blue"], embedder, unit=False), axis=1)
    mean = (strength + other) / 2  # two texts are as strong as they are on average
    told = {hit.relevance: hit.score for hit in photos.recommend(["red"], ["blue"], strategy="average")}
    assert any(0 < (relevance or 0) < 1 for relevance in told)
    for relevance, score in told.items():
        assert relevance == pytest.approx(KNOWN.relevance((score or 0) * mean), abs=1e-3)


def test_labels_compare_as_they_do_without_a_bias(photos: ImageCollection, embedder: FakeEmbedder) -> None:
    labels = {colour: colour for colour in COLOURS}
    plain: list[Label] = []
    photos.classify(labels, on_image=plain.append)
    embedder.prompts = Prompts(("{}",), bias=(0.3, 0.2, *[0.0] * 14))  # type: ignore[attr-defined]  # it may have some
    biased: list[Label] = []
    photos.classify(labels, on_image=biased.append)

    assert [(one.uri, one.label) for one in biased] == [(one.uri, one.label) for one in plain]
    bias = np.array(embedder.prompts.bias)  # type: ignore[attr-defined]
    for one, other in zip(biased, plain, strict=True):
        [stored] = photos.searcher.fetch_vectors([one.uri]).values()
        assert one.score == pytest.approx(other.score - bias @ stored, abs=1e-5)


def test_an_empty_answer_says_what_the_best_was(photos: ImageCollection) -> None:
    nothing = photos.search("quarterly figures", min_relevance="auto")

    best = photos.search("quarterly figures")[0]
    assert nothing == []
    assert nothing.reason == (
        f"none of 8 images is likely to match, with a relevance of at least 0.980; the best has {best.relevance:.3f}"
    )


def test_the_relevance_that_a_hit_has_finds_it_again(photos: ImageCollection) -> None:
    between = 0
    for words in ("red", "red cat", "blue one two", "green red things here"):
        for hit in photos.search(words):
            assert hit.relevance is not None
            between += 0 < hit.relevance < 1
            for shown in (hit.relevance, float(show_relevance(hit.relevance))):
                assert hit.id in [one.id for one in photos.search(words, min_relevance=shown)]
    assert between > 10


def test_the_relevance_asked_for_is_told_as_it_was_said(photos: ImageCollection) -> None:
    best = photos.search("quarterly figures")[0].relevance
    assert best is not None

    reason = photos.search("quarterly figures", min_relevance=best + 0.0001).reason

    asked, has = (float(number) for number in re.findall(r"0\.\d+", str(reason)))
    assert has <= best < asked


def test_without_a_calibration_it_is_refused_and_said_how_to_make_one(client: QdrantBase, tmp_path: Path) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add([write_image(tmp_path / "red.png", "red")])

    assert photos.search("red")[0].relevance is None
    with pytest.raises(QueryError, match=r"clip-qdrant calibrate.*calibrate\(\)"):
        photos.search("red", min_relevance="auto")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "often", True, [0.5]])
def test_what_is_no_relevance_is_refused(photos: ImageCollection, wrong: Any) -> None:
    with pytest.raises(QueryError, match="min_relevance"):
        photos.search("red", min_relevance=wrong)


def coloured(number: int) -> list[np.ndarray]:
    dice = np.random.default_rng(0)
    return [np.full((8, 8, 3), dice.integers(0, 256, 3), np.uint8) for _ in range(number)]


def test_a_collection_is_calibrated_by_its_own_images_and_keeps_that(client: QdrantBase, tmp_path: Path) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    photos.add([*coloured(40), write_image(tmp_path / "red.png", "red")])

    found = photos.calibrate()

    again = ImageCollection("photos", FakeEmbedder(), client)
    assert photos.calibration == again.calibration == found
    assert again.search("red", min_relevance="auto")[0].path == tmp_path / "red.png"
    assert again.search("the figures of the third quarter for all shareholders", min_relevance="auto") == []
    again.add([write_image(tmp_path / "blue.png", "blue")], metadata=[{"new": "field"}])
    assert ImageCollection("photos", FakeEmbedder(), client).calibration == found


def test_the_calibration_of_the_collection_goes_before_that_of_the_model(
    photos: ImageCollection, embedder: FakeEmbedder
) -> None:
    assert photos.calibration == KNOWN
    photos.add(coloured(40))

    found = photos.calibrate()

    assert found != KNOWN
    assert photos.calibration == found


def test_captions_that_the_model_understands_are_what_it_is_measured_by(client: QdrantBase) -> None:
    photos = ImageCollection("photos", UnderstandingEmbedder(), client)
    images = coloured(120)
    photos.add(images, captions=[" ".join(map(str, image[0, 0])) for image in images])

    by_captions = photos.calibrate()
    photos.add(images, captions=["" for _ in images])
    by_images = photos.calibrate()

    assert by_captions != by_images


@pytest.mark.parametrize("captioned", [True, False])
def test_a_collection_is_calibrated_by_texts_without_their_bias(client: QdrantBase, captioned: bool) -> None:
    embedder, bias = UnderstandingEmbedder(), (0.4, 0.2, *[0.0] * 14)
    embedder.prompts = Prompts(("{}",), bias=bias)  # type: ignore[attr-defined]  # it may have some
    photos, images = ImageCollection("photos", embedder, client), coloured(120)
    captions = [" ".join(map(str, image[0, 0])) for image in images]
    photos.add(images, captions=captions if captioned else None)
    rows, improbable = embedder.embed_images(images), embedder.embed_texts(IMPROBABLE_TEXTS) - np.array(bias)

    if captioned:
        texts = embedder.embed_texts(captions) - np.array(bias)
        expected = measure_calibration(rows, texts, owners=range(len(rows)), improbable=improbable)
    else:
        expected = measure_calibration(rows, improbable, improbable=improbable)

    found = photos.calibrate()
    assert expected is not None
    assert found.text == pytest.approx(expected.text, abs=1e-5)
    assert found.cutoff == pytest.approx(expected.cutoff, abs=1e-3)


class UnderstandingEmbedder(FakeEmbedder):
    """One that knows any colour, written as three numbers."""

    def embed_texts(self, texts: Any) -> np.ndarray:
        rows = []
        for text in texts:
            numbers = [word for word in text.split() if word.isdigit()]
            row = super().embed_texts([text])[0]
            if len(numbers) == 3:
                row = np.array([*(int(number) / 255 for number in numbers), 0.1, *[0.0] * (self.dim - 4)], np.float32)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, np.float32)


def test_a_small_collection_cannot_be_calibrated(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match="8 images, too few"):
        photos.calibrate()
