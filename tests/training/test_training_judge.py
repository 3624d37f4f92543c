"""Zero-shot classification, robustness, speed and size, and all of it in one judgement."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, solid_image, write_image
from PIL import Image
from tiny import pictures, tiny_checkpoint

from clip_qdrant.errors import ConfigError, NotAnImage, TrainingError
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.judge import figure_names, judge, measure_size, measure_speed
from clip_qdrant_training.evaluation.robustness import IMAGE_CHANGES, robustness, with_typo
from clip_qdrant_training.evaluation.zero_shot import PROMPTS, Labelled, class_vectors, read_labelled, zero_shot


class Reader(FakeEmbedder):
    """Knows a colour at the end of a sentence too."""

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        return super().embed_texts(text.replace(".", "") for text in texts)


@pytest.fixture
def pairs() -> list[Pair]:
    return [Pair(solid_image(colour, (48, 40)), (colour, f"{colour} zebra")) for colour in COLOURS]


def test_images_are_classified_by_the_nearest_class() -> None:
    labelled = [Labelled(solid_image(colour), colour) for colour in COLOURS]
    assert zero_shot(Reader(), labelled) == {"accuracy@1": 100.0, "accuracy@5": 100.0}
    swapped = [Labelled(solid_image("red"), "blue"), *labelled[1:]]
    assert zero_shot(Reader(), swapped, class_names={c: c for c in COLOURS})["accuracy@1"] == 87.5


def test_a_label_is_read_as_its_name_and_its_underscores_as_spaces() -> None:
    labelled = [Labelled(solid_image("red"), "n01"), Labelled(solid_image("blue"), "n02")]
    clip = Reader()
    assert zero_shot(clip, labelled, class_names={"n01": "red", "n02": "blue"})["accuracy@1"] == 100
    assert zero_shot(clip, labelled, class_names={"n01": "blue", "n02": "red"})["accuracy@1"] == 0
    underscored = [Labelled(solid_image("red"), "red_zebra"), Labelled(solid_image("blue"), "blue_zebra")]
    assert zero_shot(clip, underscored, templates=("{}",))["accuracy@1"] == 100


def test_classes_of_equal_rows_are_no_hit() -> None:
    labelled = [Labelled(solid_image("red"), "a"), Labelled(solid_image("red"), "b")]
    assert zero_shot(Reader(), labelled, class_names={"a": "red", "b": "red"})["accuracy@1"] == 0


def test_a_class_is_the_mean_of_its_prompts_of_length_one() -> None:
    clip = FakeEmbedder()
    templates = ("a photo of a {}.", "many {}")
    found = class_vectors(clip, ["red", "blue"], templates)
    for row, name in zip(found, ("red", "blue"), strict=True):
        mean = clip.embed_texts([template.replace("{}", name) for template in templates]).mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert all(template.count("{}") == 1 for template in PROMPTS)


def test_what_cannot_be_classified_is_told() -> None:
    red = Labelled(solid_image("red"), "red")
    with pytest.raises(TrainingError, match="the only class is red"):
        zero_shot(FakeEmbedder(), [red])
    with pytest.raises(ConfigError, match="class_names lacks the label 'red'"):
        zero_shot(FakeEmbedder(), [red], class_names={"blue": "blue", "green": "green"})
    with pytest.raises(ConfigError, match="the template 'a photo' needs one"):
        zero_shot(FakeEmbedder(), [red], class_names={"blue": "blue", "red": "red"}, templates=["a photo"])
    with pytest.raises(ConfigError, match="templates is empty"):
        class_vectors(FakeEmbedder(), ["red"], ())


def test_labels_come_from_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "red" / "1.png", "red")
    write_image(tmp_path / "red" / "deeper" / "2.JPG", "red")
    write_image(tmp_path / "blue" / "3.webp", "blue")
    write_image(tmp_path / ".hidden" / "4.png", "blue")
    (tmp_path / "blue" / "notes.txt").write_text("no image")
    found = read_labelled(tmp_path)
    assert [(item.image.name, item.label) for item in found] == [("3.webp", "blue"), ("1.png", "red"), ("2.JPG", "red")]
    assert zero_shot(Reader(), found)["accuracy@1"] == 100
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="holds no labelled images: a folder of images for each class"):
        read_labelled(tmp_path / "empty")


def test_labels_come_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"image": "red.png", "label": " red "}\n\n', encoding="utf-8")
    assert read_labelled(path) == [Labelled(tmp_path / "red.png", "red")]
    for line, complaint in {
        "{": "line 2 is not JSON",
        "[]": "line 2 has no image",
        '{"image": "a.png", "label": 3}': "line 2 has no label",
        '{"label": "a"}': "line 2 has no image",
    }.items():
        path.write_text('{"image": "a.png", "label": "a"}\n' + line)
        with pytest.raises(TrainingError, match=complaint):
            read_labelled(path)
    path.write_text("\n")
    with pytest.raises(TrainingError, match="one JSON object a line"):
        read_labelled(path)
    with pytest.raises(TrainingError, match="cannot read the labelled images"):
        read_labelled(tmp_path / "none.jsonl")


def test_an_embedder_of_colours_loses_recall_to_grey_and_to_typos_and_to_nothing_else(pairs: list[Pair]) -> None:
    lost = robustness(FakeEmbedder(), pairs)
    assert list(lost) == [*IMAGE_CHANGES, "typo"]
    for change in ("blur", "crop", "rotation", "jpeg"):
        assert set(lost[change].values()) == {0.0}, change
    assert lost["grey"]["text_to_image_recall@1"] >= 50
    assert lost["typo"]["text_to_image_recall@1"] > 30
    assert robustness(FakeEmbedder(), pairs) == lost


def test_rows_at_hand_are_not_embedded_again(pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    rows = clip.embed_images(pair.image for pair in pairs), clip.embed_texts(c for p in pairs for c in p.captions)
    clip.image_calls.clear()
    assert robustness(clip, pairs, vectors=rows) == robustness(FakeEmbedder(), pairs)
    assert len(clip.image_calls) == len(IMAGE_CHANGES)


@pytest.mark.parametrize("name", list(IMAGE_CHANGES))
def test_a_change_alters_pixels_and_stays_an_rgb_image(name: str) -> None:
    before = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8))
    after = IMAGE_CHANGES[name](before.copy())
    assert after.mode == "RGB"
    assert after.size == ((140, 112) if name == "crop" else before.size)
    assert name == "crop" or np.abs(np.asarray(after, int) - np.asarray(before, int)).max() > 8


def test_large_and_small_copies_of_a_picture_are_blurred_alike() -> None:
    seen: list[tuple[int, int]] = []

    class Watching(FakeEmbedder):
        def embed_images(self, images: Iterable[Image.Image]) -> np.ndarray:
            images = list(images)
            seen.extend(image.size for image in images)
            return super().embed_images(images)

    [large] = pictures(1, size=(900, 600))
    robustness(Watching(image_size=70), [Pair(large, ("a",)), Pair(large.resize((300, 200)), ("b",))])
    assert set(seen[2:4]) == {(150, 100)}


def test_a_typo_is_one_letter_inside_a_word() -> None:
    rng = random.Random(0)
    found = {with_typo("two dogs", rng) for _ in range(200)}
    assert found == {"to dogs", "two dgs", "two dos", "tow dogs", "two dgos", "two dosg"}
    assert with_typo("a to 42", rng) == "a to 42"
    assert with_typo("", rng) == ""
    assert with_typo("eeee", rng) == "eee"  # a swap of equal letters would be no typo


def test_speed_and_size_are_positive_and_a_checkpoint_tells_its_parameters(tmp_path: Path, pairs: list[Pair]) -> None:
    clip = FakeEmbedder()
    found = measure_speed(clip, pairs)
    assert found.images_per_second > 0
    assert found.text_ms > 0
    assert clip.text_calls.count(1) >= 50
    checkpoint = tiny_checkpoint()
    save_checkpoint(checkpoint, tmp_path / "tiny.pt")
    told = measure_size(clip, str(tmp_path / "tiny.pt"))
    assert told.bytes == (tmp_path / "tiny.pt").stat().st_size
    assert told.parameters == sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert measure_size(clip, "hf:some/model") == measure_size(clip) == type(told)(clip.dim, None, None)


def test_a_judgement_holds_what_was_asked_for(pairs: list[Pair]) -> None:
    labelled = [Labelled(solid_image(colour), colour) for colour in ("red", "blue")]
    least = judge(FakeEmbedder(), pairs, model="fake", samples=0)
    assert least.to_dict() == {
        "model": "fake",
        "fingerprint": FakeEmbedder().fingerprint,
        "metrics": dict(least.metrics),
    }
    most = judge(FakeEmbedder(), pairs, samples=20, labelled=labelled, changes=True, clock=True)
    assert set(most.to_dict()) == {*least.to_dict(), "intervals", "zero_shot", "robustness", "speed", "size"}
    json.dumps(most.to_dict())
    assert set(most.intervals) == set(most.metrics)
    assert list(most.figures()) == figure_names(zero_shot=True)
    assert "zero_shot_accuracy@1" in most.figures()
    assert list(least.figures()) == figure_names(zero_shot=False)
    assert not any("median" in name for name in least.figures())


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, pairs: list[Pair]) -> None:
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(NotAnImage, match=r"broken\.png"):
        robustness(FakeEmbedder(), [*pairs, Pair(tmp_path / "broken.png", ("a",))], vectors=_rows(pairs))


def _rows(pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.eye(len(pairs) + 1, FakeEmbedder().dim, dtype=np.float32)
    return rows, rows[np.repeat(np.arange(len(pairs) + 1), [2] * len(pairs) + [1])]
