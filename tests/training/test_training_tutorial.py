"""The tutorial recipe: what it says, and that a run of it ends in a checkpoint that both ways of reading take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLOURS, tiny_checkpoint, word_tokenizer
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

from clip_qdrant import ClipEmbedder
from clip_qdrant.content import bundled_checkpoint
from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.new import new_checkpoint
from clip_qdrant.model.tutorial import save_state_dict
from clip_qdrant.model.weights import read_content
from clip_qdrant_training import EpochReport, Mixture, Pair, TrainConfig, TrainingJob, fit
from clip_qdrant_training.data.read import Part
from clip_qdrant_training.evaluation.matches import find_matches
from clip_qdrant_training.loop.optim import plateau, schedule
from clip_qdrant_training.loop.step import Learner
from clip_qdrant_training.loop.trainer import Trainer
from clip_qdrant_training.output.grid import draw_matches

QUICK = {"batch_size": 4, "device": "cpu", "threads": 1}


def save_text_encoder(model: DistilBertModel | BertModel, tokenizer: str, folder: Path) -> Path:
    """A folder as transformers writes it for a published model."""
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DistilBERT's vocabulary on one small layer."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=30522, dim=64, n_heads=1, n_layers=1, hidden_dim=64)
    tokenizer = str(read_content(bundled_checkpoint())["tokenizer"])
    return save_text_encoder(DistilBertModel(config), tokenizer, tmp_path_factory.mktemp("distilbert"))


@pytest.fixture(scope="module")
def small_start(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """A square of each colour, and its caption."""
    found = []
    for name, colour in COLOURS.items():
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (96, 64), colour).save(path)
        found.append(Pair(path, (f"a {name} square", f"a photo of something {name}")))
    return found


def test_the_recipe_says_what_the_tutorial_does() -> None:
    config = TrainConfig.load("tutorial")
    assert (config.image_encoder, config.text_encoder, config.dim) == ("resnet50", "distilbert-base-uncased", 256)
    assert (config.head_lr, config.image_lr, config.text_lr) == (1e-3, 1e-4, 1e-5)
    assert (config.loss, config.temperature, config.batch_size) == ("soft_targets", 1.0, 32)
    assert (config.schedule, config.clip_norm, config.batch_norm) == ("plateau", 0.0, "train")
    assert (config.crop, config.ratio, config.colour, config.flip) == (1.0, 1.0, 0.0, "off")


@pytest.mark.slow
def test_a_run_of_the_recipe_is_read_both_ways_and_finds_images(
    tmp_path: Path, distilbert: Path, pairs: list[Pair]
) -> None:
    epochs: list[EpochReport] = []
    trained = fit(
        pairs,
        validation=pairs,
        recipe="tutorial",
        image_encoder="resnet10t",
        text_encoder=str(distilbert),
        pretrained=False,
        epochs=2,
        output=tmp_path / "mine.pt",
        on_epoch=epochs.append,
        **QUICK,
    )
    assert len(epochs) == 3  # with the start
    assert all(np.isfinite(epoch.loss) for epoch in epochs[1:])
    saved = load_checkpoint(tmp_path / "mine.pt")
    save_state_dict(saved, tmp_path / "best.pt")
    read = load_checkpoint(tmp_path / "best.pt")
    assert (read.preprocessing, read.tokenization) == (trained.preprocessing, trained.tokenization)
    kept, bare = (ClipEmbedder.from_checkpoint(each, device="cpu") for each in (saved, read))
    texts = [caption for pair in pairs for caption in pair.captions]
    images = [pair.image for pair in pairs]
    assert np.allclose(kept.embed_images(images), bare.embed_images(images), atol=1e-6)
    assert np.allclose(kept.embed_texts(texts), bare.embed_texts(texts), atol=1e-6)
    matches = find_matches(bare, pairs, "a red square", n=4)
    assert {match.captions for match in matches} == {pair.captions for pair in pairs}
    draw_matches(matches, tmp_path / "matches.png")
    with Image.open(tmp_path / "matches.png") as grid:
        assert grid.width > 2 * 224


def test_batch_norm_in_train_mode_keeps_its_own_statistics(distilbert: Path, pairs: list[Pair]) -> None:
    start = new_checkpoint("resnet10t", str(distilbert), pretrained=False, image_size=64)
    trained = fit(pairs, start=start, epochs=1, batch_norm="train", **QUICK)
    before, after = (each.model.image_encoder.model.bn1.running_mean for each in (start, trained))
    assert not torch.equal(before, after)


def test_image_size_and_interpolation_of_a_new_start_can_be_chosen(tmp_path: Path) -> None:
    words = BertConfig(vocab_size=17, hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32)
    folder = save_text_encoder(BertModel(words, add_pooling_layer=False), word_tokenizer(), tmp_path / "bert")
    made = new_checkpoint("resnet10t", str(folder), pretrained=False)
    assert (made.preprocessing.image_size, made.preprocessing.interpolation) == (176, "bicubic")
    made = new_checkpoint("resnet10t", str(folder), pretrained=False, image_size=96, interpolation="bilinear")
    assert (made.preprocessing.image_size, made.preprocessing.interpolation) == (96, "bilinear")
    with pytest.raises(ConfigError, match="'vit_tiny_patch16_224' does not take images of 96 px"):
        new_checkpoint("vit_tiny_patch16_224", str(folder), pretrained=False, image_size=96)
    with pytest.raises(ConfigError, match="image_size is 0: it must be at least 1"):
        TrainConfig(image_size=0)


def test_a_plateau_lowers_the_rates_after_two_epochs_in_a_row_that_brought_nothing() -> None:
    assert plateau([]) == plateau([5.0, 4.0]) == plateau([5.0, 4.0, 6.0, 6.0]) == 1.0
    assert plateau([5.0, 4.0, 5.0]) == pytest.approx(0.8)
    assert plateau([5.0, 4.0, 5.0, 3.0]) == pytest.approx(0.8)
    assert plateau([5.0, 4.0, 5.0, 3.0, 3.0]) == pytest.approx(0.64)
    scores = [*np.random.default_rng(0).normal(size=40)]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", patience=1, factor=0.8, threshold=0.0, threshold_mode="abs"
    )
    for end, score in enumerate(scores, start=1):
        reference.step(score)
        assert plateau(scores[:end]) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_a_run_at_a_plateau_learns_more_slowly_and_goes_on_so_when_resumed(
    tmp_path: Path, small_start: Checkpoint, pairs: list[Pair]
) -> None:
    config = TrainConfig(epochs=6, schedule="plateau", warmup=0, head_lr=1e-12, freeze_encoders=True, **QUICK)
    rates: list[float] = []

    def trainer() -> Trainer:
        return Trainer(
            TrainingJob(small_start, pairs_mixture(pairs), validation=pairs, config=config), run=tmp_path / "run"
        )

    class Steps:
        def started(self, run: object) -> None: ...

        def stepped(self, report: object) -> None:
            rates.append(report.lr["heads"] / 1e-12)  # type: ignore[attr-defined]

        def epoch_ended(self, report: object) -> None: ...

        def ended(self) -> None: ...

    first = trainer()
    first.train(Steps())
    assert rates == pytest.approx([1, 1, 1, 0.8, 0.8, 0.64])
    second = trainer()
    second.load()
    assert second.validation.scores == first.validation.scores
    for each in (first, second):
        each.close()


def test_a_constant_rate_stays_after_its_warm_up() -> None:
    assert [schedule(step, 8, 0.25, cosine=False) for step in range(8)] == [0.5, 1, 1, 1, 1, 1, 1, 1]
    assert schedule(7, 8, 0.25) < 0.1
    with pytest.raises(ConfigError, match="cosine, constant and plateau are possible"):
        TrainConfig(schedule="linear")  # type: ignore[arg-type]


def test_encoders_can_decay_otherwise_than_heads_and_clipping_can_be_off(
    small_start: Checkpoint, pairs: list[Pair]
) -> None:
    def decays(**options: float) -> dict[tuple[str, float], None]:
        learner = Learner(
            TrainingJob(small_start, pairs_mixture(pairs), config=TrainConfig(weight_decay=0.1, **options, **QUICK))
        )
        groups = learner.optimizer.param_groups
        learner.close()
        return {(group["name"], group["weight_decay"]): None for group in groups}

    assert set(decays()) == {(part, decay) for part in ("heads", "image", "text") for decay in (0.1, 0.0)}
    assert set(decays(encoder_weight_decay=0.0)) == {("heads", 0.1), ("heads", 0.0), ("image", 0.0), ("text", 0.0)}
    free, clipped = (
        fit(pairs, start=small_start, epochs=1, head_lr=1e-3, clip_norm=norm, **QUICK).fingerprint()
        for norm in (0.0, 1e9)
    )
    assert free == clipped
    assert replace(TrainConfig(), clip_norm=0).clip_norm == 0.0


def pairs_mixture(pairs: list[Pair]) -> Mixture:
    return Mixture([Part(pairs)])
