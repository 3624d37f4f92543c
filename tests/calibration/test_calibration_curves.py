"""Calibration: relevance is the share of random pairs that are less alike, and the cut-off keeps true matches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.calibration.curves import LEVELS, Calibration, measure_calibration

TEXT = tuple(0.1 * level for level in LEVELS)
IMAGE = tuple(0.5 + 0.4 * level for level in LEVELS)
KNOWN = Calibration(TEXT, IMAGE, 0.9)


def unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def made_up(number: int = 400, dim: int = 32, noise: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, a text near each, and texts that describe none of them."""
    dice = np.random.default_rng(0)
    images = unit(dice.normal(size=(number, dim)))
    texts = unit(images + noise * unit(dice.normal(size=(number, dim))))
    return images, texts, unit(dice.normal(size=(100, dim)))


def test_relevance_is_the_share_of_random_pairs_that_are_less_alike() -> None:
    images, texts, improbable = made_up()
    found = measure_calibration(images, texts, owners=range(len(texts)), improbable=improbable)

    assert found is not None
    others = (texts @ images.T)[~np.eye(len(images), dtype=bool)]
    for score in np.quantile(others, (0.1, 0.5, 0.93, 0.996)):
        assert found.relevance(score) == pytest.approx((others < score).mean(), abs=0.01)
    between = (images @ images.T)[~np.eye(len(images), dtype=bool)]
    assert found.relevance(float(np.median(between)), text=0) == pytest.approx(0.5, abs=0.01)


def test_the_cutoff_keeps_nineteen_of_twenty_true_matches_and_little_of_what_is_not_there() -> None:
    images, texts, improbable = made_up()
    found = measure_calibration(images[:200], texts[:200], owners=range(200), improbable=improbable[:50])

    assert found is not None
    cut = found.score(found.cutoff)
    assert ((images[200:] * texts[200:]).sum(axis=1) >= cut).mean() >= 0.93
    assert ((improbable[50:] @ images[200:].T).max(axis=1) < cut).mean() >= 0.8


def test_without_captions_the_cutoff_is_what_four_of_five_improbable_texts_do_not_reach() -> None:
    images, _, improbable = made_up()
    found = measure_calibration(images, improbable, improbable=improbable)

    assert found is not None
    best = (improbable @ images.T).max(axis=1)
    assert (best < found.score(found.cutoff)).mean() == pytest.approx(0.8, abs=0.05)


def test_texts_count_for_their_own_image_in_whichever_order_they_come() -> None:
    images, texts, _ = made_up(60)
    order = np.random.default_rng(1).permutation(60)

    straight = measure_calibration(images, texts, owners=range(60))
    shuffled = measure_calibration(images, texts[order], owners=order)

    assert straight is not None
    assert shuffled is not None
    assert shuffled.cutoff == pytest.approx(straight.cutoff, abs=1e-4)
    assert shuffled.text == pytest.approx(straight.text, abs=1e-4)


def test_a_few_images_are_too_few() -> None:
    images, texts, improbable = made_up(29)

    assert measure_calibration(images, texts, owners=range(29), improbable=improbable) is None
    assert measure_calibration(*made_up(30)[:2], owners=range(30)) is not None
    assert measure_calibration(made_up(30)[0], np.empty((0, 32), np.float32), improbable=improbable) is None


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_higher_score_is_never_less_relevant(one: float, other: float, text: float) -> None:
    low, high = sorted((one, other))

    assert 0 <= KNOWN.relevance(low, text=text) <= KNOWN.relevance(high, text=text) <= 1


@given(st.floats(0.001, 1), st.floats(0, 1))
def test_the_score_of_a_relevance_has_that_relevance(relevance: float, text: float) -> None:
    assert KNOWN.relevance(KNOWN.score(relevance, text=text), text=text) == pytest.approx(relevance, abs=1e-3)


def test_no_relevance_asks_for_no_score() -> None:
    assert KNOWN.score(0) == -1


def test_a_query_of_texts_and_images_is_measured_between_the_two() -> None:
    assert KNOWN.score(0.5, text=1) == pytest.approx(0.05, abs=1e-4)
    assert KNOWN.score(0.5, text=0) == pytest.approx(0.7, abs=1e-4)
    assert KNOWN.score(0.5, text=0.5) == pytest.approx(0.375, abs=1e-4)


def test_it_goes_through_json_types_and_back() -> None:
    assert Calibration.from_dict(KNOWN.to_dict()) == KNOWN


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": [0.1, 0.2]},
        {"text": list(TEXT[::-1])},
        {"image": [float("nan")] * len(LEVELS)},
        {"cutoff": 1.5},
        {"cutoff": None},
        {"text": "x"},
    ],
)
def test_what_is_no_calibration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_dict({**KNOWN.to_dict(), **wrong})
