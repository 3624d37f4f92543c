"""The learning rate range test finds rates that train, gives the same each time, and leaves everything as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import coloured_pairs
from tiny import tiny_checkpoint

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training import Mixture, Pair, TrainConfig, TrainingJob
from clip_qdrant_training.data.read import Part
from clip_qdrant_training.lr_range import LrRange, _suggest, lr_range_test

HEADS = TrainConfig(batch_size=4, freeze_encoders=True, views=1, device="cpu", threads=1, precision="float32")
FACTORS = [10 ** (-3 + 6 * number / 99) for number in range(100)]


def mixture(pairs: list[Pair]) -> Mixture:
    return Mixture([Part(pairs)])


def test_the_suggestion_lies_where_the_loss_falls(tmp_path: Path) -> None:
    found = lr_range_test(TrainingJob(tiny_checkpoint(), mixture(coloured_pairs(tmp_path)), config=HEADS))
    assert len(found.factors) == len(found.losses) <= 100
    assert found.factors[0] == pytest.approx(1e-3)
    at = int(np.searchsorted(found.factors, found.suggestion))
    around = found.losses[max(0, at - 8)], found.losses[min(at + 8, len(found.losses) - 1)]
    assert 1e-3 < found.suggestion < 1e3
    assert around[0] > around[1]
    assert min(found.losses) < found.losses[0]


def test_it_is_reproducible_and_leaves_start_and_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, start = coloured_pairs(tmp_path), tiny_checkpoint()
    fingerprint, threads = start.fingerprint(), torch.get_num_threads()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    first, second = (lr_range_test(TrainingJob(start, mixture(pairs), config=HEADS), steps=20) for _ in range(2))
    assert first == second
    assert start.fingerprint() == fingerprint
    assert torch.get_num_threads() == threads
    assert not any(parameter.grad is not None for parameter in start.model.parameters())
    assert list(Path().iterdir()) == []


def test_averaged_weights_have_no_say(tmp_path: Path) -> None:
    pairs, start = coloured_pairs(tmp_path), tiny_checkpoint()
    config = TrainConfig(batch_size=4, ema=0.9, device="cpu", threads=1, precision="float32")
    at_once = TrainConfig(batch_size=4, device="cpu", threads=1, precision="float32")
    runs = [lr_range_test(TrainingJob(start, mixture(pairs), config=each), steps=10) for each in (config, at_once)]
    assert runs[0] == runs[1]


def test_a_loss_that_explodes_ends_the_sweep(tmp_path: Path) -> None:
    config = TrainConfig(batch_size=8, loss="soft_targets", device="cpu", threads=1, precision="float32")
    found = lr_range_test(
        TrainingJob(tiny_checkpoint(), mixture(coloured_pairs(tmp_path)), config=config), highest=1e7, steps=40
    )
    assert len(found.losses) < 40
    assert found.losses[-1] > 4 * min(found.losses)
    assert all(map(math.isfinite, found.losses))


def test_the_suggestion_is_the_middle_of_the_steepest_decade() -> None:
    rng = np.random.default_rng(0)
    falls = [4 - 3 / (1 + (0.3 / factor) ** 2) for factor in FACTORS]  # steepest, over the log, at 0.3
    rises = [loss + 5 * (factor > 20) for factor, loss in zip(FACTORS, falls, strict=True)]
    again = [1.0 if factor > 100 else loss for factor, loss in zip(FACTORS, rises, strict=True)]  # lower than before
    for losses in (falls, rises, again):
        noisy = [loss + rng.normal(0, 0.05) for loss in losses]
        assert 0.15 < _suggest(FACTORS, noisy, losses, decade=16) < 0.6


def test_of_a_trained_start_it_is_a_tenth_of_where_the_loss_rises() -> None:
    rng = np.random.default_rng(0)
    losses = [0.3 + (0 if factor < 2 else math.log(factor / 2)) for factor in FACTORS]
    noisy = [loss + rng.normal(0, 0.05) for loss in losses]
    assert 0.15 < _suggest(FACTORS, noisy, losses, decade=16) < 0.4


def test_a_start_at_its_best_with_no_rise_gives_a_tenth_of_the_highest() -> None:
    assert _suggest(FACTORS, [1.0] * 100, [1.0] * 100, decade=16) == pytest.approx(100)


def test_what_it_found_goes_into_json_and_a_picture(tmp_path: Path) -> None:
    found = LrRange(factors=(0.1, 1.0, 10.0), losses=(3.0, 2.0, 5.0), suggestion=0.4)
    assert json.loads(json.dumps(found.to_dict())) == {
        "factors": [0.1, 1.0, 10.0],
        "losses": [3.0, 2.0, 5.0],
        "suggestion": 0.4,
    }
    path = found.draw(tmp_path / "new" / "range.png")
    with Image.open(path) as image:
        assert image.size == (900, 600)
        assert len(set(image.convert("RGB").resize((90, 60)).tobytes())) > 10  # something is drawn
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write .*range\.png"):
        found.draw(tmp_path / "file" / "range.png")


def test_bad_ranges_and_starts_are_told(tmp_path: Path) -> None:
    pairs, start = coloured_pairs(tmp_path), tiny_checkpoint()
    for lowest, highest in ((0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="give a lowest factor above 0"):
            lr_range_test(TrainingJob(start, mixture(pairs), config=HEADS), lowest=lowest, highest=highest)
    with pytest.raises(ConfigError, match="steps is 9"):
        lr_range_test(TrainingJob(start, mixture(pairs), config=HEADS), steps=9)
    with torch.no_grad():
        start.model.image_projection.fc.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is no number before the first step"):
        lr_range_test(TrainingJob(start, mixture(pairs), config=HEADS))
