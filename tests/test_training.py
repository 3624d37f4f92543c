"""Training learns, keeps its best, is the same for the same seed, and says what is wrong with its data."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tiny import COLOURS, pictures, tiny_checkpoint

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import ConfigError, NotAnImage, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint, load_checkpoint
from clip_qdrant_training import EpochReport, Pair, TrainConfig, evaluate, fit, read_pairs, recall, train
from clip_qdrant_training.inputs import FeatureInputs, PixelInputs
from clip_qdrant_training.losses import info_nce

QUICK = {"batch_size": 4, "device": "cpu", "threads": 1}


def coloured_pairs(folder: Path) -> list[Pair]:
    """Eight images, two of each colour, whose captions name it."""
    pairs = []
    for name, colour in COLOURS.items():
        for shade in (1.0, 0.8):
            path = folder / f"{name}-{shade}.png"
            Image.new("RGB", (64, 64), tuple(int(channel * shade) for channel in colour)).save(path)
            pairs.append(Pair(path, (f"a {name} square", f"photo of {name}")))
    return pairs


def one_of_each(pairs: list[Pair]) -> list[Pair]:
    return pairs[::2]


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


def test_info_nce_is_the_mean_cross_entropy_of_both_directions() -> None:
    rng = np.random.default_rng(0)
    images, texts = (rng.normal(size=(6, 5)) for _ in range(2))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    scale = 7.0
    total = 0.0
    for i in range(6):
        for rows, columns in ((images, texts), (texts, images)):
            logits = [scale * float(np.dot(rows[i], columns[j])) for j in range(6)]
            total += -logits[i] + np.log(sum(np.exp(logit) for logit in logits))
    loss = info_nce(torch.tensor(images), torch.tensor(texts), torch.tensor(scale, dtype=torch.float64).log())
    assert loss.item() == pytest.approx(total / 12, abs=1e-9)


def test_info_nce_clamps_the_temperature_at_one_hundredth() -> None:
    rows = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    wide = info_nce(rows, rows.roll(1, 0), torch.tensor(100.0))
    assert wide.item() == pytest.approx(info_nce(rows, rows.roll(1, 0), torch.tensor(100.0).log()).item(), rel=1e-5)


def naive_recall(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, k: int) -> tuple[float, float]:
    """By sorting, one query at a time."""
    to_image = [owner[j] in np.argsort(-(images @ texts[j]))[:k] for j in range(len(texts))]
    to_text = [i in owner[np.argsort(-(texts @ images[i]))[:k]] for i in range(len(images))]
    return 100 * float(np.mean(to_image)), 100 * float(np.mean(to_text))


def test_recall_equals_a_naive_ranking() -> None:
    rng = np.random.default_rng(1)
    owner = np.sort(rng.integers(0, 40, 100))
    owner = np.concatenate([owner, np.setdiff1d(np.arange(40), owner)])
    images = rng.normal(size=(40, 6)).astype(np.float32)
    texts = (images[owner] + rng.normal(size=(len(owner), 6))).astype(np.float32)
    found = recall(images, texts, owner)
    for k in (1, 5, 10):
        both = (found[f"text_to_image_recall@{k}"], found[f"image_to_text_recall@{k}"])
        assert both == pytest.approx(naive_recall(images, texts, owner, k))


def test_vectors_that_are_no_numbers_are_refused_not_ranked_first() -> None:
    broken = np.full((5, 3), np.nan, dtype=np.float32)
    with pytest.raises(TrainingError, match="no numbers"):
        recall(broken, broken, np.arange(5))


def test_equal_captions_of_two_images_tie() -> None:
    rng = np.random.default_rng(3)
    images, texts = (rng.normal(size=(300, 64)).astype(np.float32) for _ in range(2))
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    owner = np.concatenate([np.arange(300), np.roll(np.arange(300), 1)])
    found = recall(images, np.concatenate([texts, texts]), owner)  # each caption is one of the next image too
    assert found["image_to_text_recall@1"] == 0


def test_a_collapsed_model_scores_nothing() -> None:
    same = np.ones((50, 3), dtype=np.float32)
    assert set(recall(same, same, np.arange(50)).values()) == {0.0}


@pytest.mark.parametrize("frozen", [True, False], ids=["heads only", "end to end"])
def test_training_learns_to_tell_colours_apart(tmp_path: Path, tiny: Checkpoint, frozen: bool) -> None:
    pairs = coloured_pairs(tmp_path)
    before = evaluate(ClipEmbedder.from_checkpoint(tiny, device="cpu"), one_of_each(pairs))
    reports: list[EpochReport] = []
    config = TrainConfig(epochs=30, freeze_encoders=frozen, image_lr=1e-3, text_lr=1e-3, **QUICK)
    trained = train(tiny, pairs, validation=one_of_each(pairs), config=config, on_epoch=reports.append)
    after = evaluate(ClipEmbedder.from_checkpoint(trained, device="cpu"), one_of_each(pairs))
    assert after["text_to_image_recall@1"] == 100 > before["text_to_image_recall@1"]
    assert reports[-1].loss < 0.7 * reports[0].loss
    assert [report.epoch for report in reports] == list(range(1, 31))


def test_frozen_encoders_keep_their_weights_and_heads_do_not(tmp_path: Path, tiny: Checkpoint) -> None:
    start = tiny_checkpoint(image_head="concept", text_head="residual", concepts=9)
    trained = train(start, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, freeze_encoders=True, **QUICK))
    old, new = start.model.state_dict(), trained.model.state_dict()
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"image_projection", "text_projection", "logit_scale"}
    assert torch.equal(old["image_projection.classifier.weight"], new["image_projection.classifier.weight"])


def test_heads_first_then_everything_trains_everything(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    heads = train(tiny, pairs, config=TrainConfig(epochs=1, freeze_encoders=True, **QUICK))
    everything = train(heads, pairs, config=TrainConfig(epochs=1, **QUICK))
    old, new = heads.model.state_dict(), everything.model.state_dict()
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert {"image_encoder", "text_encoder", "image_projection", "text_projection"} <= changed
    assert all(parameter.requires_grad and parameter.grad is None for parameter in heads.model.parameters())


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    lines = [json.dumps({"image": pair.image.name, "captions": list(pair.captions)}) for pair in pairs]
    (tmp_path / "colours.jsonl").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")  # as some editors save
    first = fit(tmp_path / "colours.jsonl", start=tiny, epochs=1, **QUICK)
    second = fit(pairs, start=first, epochs=1, **QUICK)
    assert first.trained_on == ("nothing", "colours.jsonl")
    assert second.trained_on == ("nothing", "colours.jsonl", "own pairs")


def test_a_target_that_cannot_be_written_is_told_before_training(tmp_path: Path, tiny: Checkpoint) -> None:
    reports: list[EpochReport] = []
    (tmp_path / "file").write_text("")
    for target, complaint in ((tmp_path, "it is a folder"), (tmp_path / "file" / "out.pt", "cannot write")):
        with pytest.raises(TrainingError, match=complaint):
            fit(coloured_pairs(tmp_path), start=tiny, output=target, on_epoch=reports.append, epochs=1, **QUICK)
    assert reports == []


def test_an_image_is_mirrored_unless_a_caption_says_left_or_right(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    [picture] = pictures(1)
    frozen = FeatureInputs(tiny, [Pair(picture, ("a dog",)), Pair(picture, ("a dog", "a cat, Left of it"))])
    rng = random.Random(0)
    rows = torch.stack([frozen.rows([0, 1], rng)[0] for _ in range(20)])  # (draws, pairs, dim)
    either, never = (len(torch.unique(rows[:, pair], dim=0)) for pair in (0, 1))
    assert (either, never) == (2, 1)

    mirrored: list[object] = []
    mirror = ImageOps.mirror
    monkeypatch.setattr(ImageOps, "mirror", lambda image: mirrored.append(image) or mirror(image))
    learning = PixelInputs(tiny, frozen.pairs)
    for _ in range(20):
        learning.rows([1], rng)
    assert mirrored == []
    for _ in range(20):
        learning.rows([0], rng)
    assert 3 <= len(mirrored) <= 17


def test_training_leaves_its_start_and_batch_norm_statistics_alone(tmp_path: Path, tiny: Checkpoint) -> None:
    fingerprint = tiny.fingerprint()
    trained = train(tiny, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK))
    assert tiny.fingerprint() == fingerprint != trained.fingerprint()
    statistics = [name for name in trained.model.state_dict() if name.endswith("running_mean")]
    assert statistics
    assert all(torch.equal(trained.model.state_dict()[name], tiny.model.state_dict()[name]) for name in statistics)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    runs = [train(tiny, pairs, config=TrainConfig(epochs=2, seed=seed, **QUICK)) for seed in (3, 3, 4)]
    first, second, other = (run.fingerprint() for run in runs)
    assert first == second != other


def test_the_best_epoch_is_returned_and_written(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    reports: list[EpochReport] = []
    config = TrainConfig(epochs=8, head_lr=0.05, freeze_encoders=True, **QUICK)  # too fast to improve every epoch
    best = train(tiny, pairs, validation=pairs, config=config, output=tmp_path / "b.pt", on_epoch=reports.append)
    scores = [sum(report.metrics.values()) for report in reports]
    assert [report.best for report in reports] == [
        score > max(scores[:epoch], default=-1) for epoch, score in enumerate(scores)
    ]
    assert sum(best.metrics.values()) == max(scores)
    assert load_checkpoint(tmp_path / "b.pt").fingerprint() == best.fingerprint()


def test_fit_takes_paths_and_tuples_and_gives_an_embedder(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    lines = [json.dumps({"image": pair.image.name, "captions": list(pair.captions)}) for pair in pairs]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n\n")
    from_path = fit(tmp_path / "train.jsonl", start=tiny, epochs=1, **QUICK)
    tuples = [(pair.image, list(pair.captions)) for pair in pairs]
    assert fit(tuples, start=tiny, epochs=1, **QUICK).fingerprint() == from_path.fingerprint()
    clip = ClipEmbedder.fit(tuples, start=tiny, epochs=1, output=tmp_path / "out.pt", **QUICK)
    assert clip.fingerprint == from_path.fingerprint()
    assert ClipEmbedder.load(tmp_path / "out.pt", runtime="torch", device="cpu").fingerprint == clip.fingerprint


def test_pairs_that_cannot_be_read_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    for line, complaint in {
        "{nonsense": "line 2 is not JSON",
        '{"captions": ["a"]}': "line 2 has no image",
        '{"image": "a.png"}': "line 2 needs captions",
        '{"image": "a.png", "captions": []}': "line 2 needs captions",
        '{"image": "a.png", "captions": ["a", 3]}': "line 2 needs captions",
    }.items():
        path.write_text('{"image": "a.png", "caption": "fine"}\n' + line)
        with pytest.raises(TrainingError, match=complaint):
            read_pairs(path)
    path.write_text("\n")
    with pytest.raises(TrainingError, match="holds no pairs"):
        read_pairs(path)
    with pytest.raises(TrainingError, match="cannot read the pairs"):
        read_pairs(tmp_path / "none.jsonl")


def test_an_unreadable_image_is_named(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    (tmp_path / "red-1.0.png").write_text("no image")
    with pytest.raises(NotAnImage, match=r"red-1\.0\.png"):
        train(tiny, pairs, config=TrainConfig(epochs=1, **QUICK))


def test_too_few_pairs_and_bad_options_are_refused(tiny: Checkpoint) -> None:
    pairs = [(picture, "a dog") for picture in pictures(2)]
    with pytest.raises(TrainingError, match="1 pair is not enough"):
        fit(pairs[:1], start=tiny)
    with pytest.raises(TrainingError, match="no pairs"):
        fit([], start=tiny)
    with pytest.raises(ConfigError, match="unknown option 'epoch'"):
        fit(pairs, start=tiny, epoch=3)
    with pytest.raises(ConfigError, match="epochs is 0"):
        fit(pairs, start=tiny, epochs=0)
    for option, value in (("batch_size", 2.5), ("threads", -1), ("seed", "x")):
        with pytest.raises(ConfigError, match=f"{option} is"):
            fit(pairs, start=tiny, **{option: value})
    with pytest.raises(ConfigError, match="warmup is 2"):
        fit(pairs, start=tiny, warmup=2)
    with pytest.raises(TrainingError, match="pair 0 is a int"):
        fit([1, 2], start=tiny)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, tiny: Checkpoint) -> None:
    broken = replace(tiny, model=tiny_checkpoint().model)
    with torch.no_grad():
        broken.model.image_projection.fc.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan in step 0 of epoch 1"):
        train(broken, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK))
