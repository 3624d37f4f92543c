"""A training configuration comes from a recipe, changes and options, and says of every wrong value what is possible."""

from __future__ import annotations

import pickle
import tomllib
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant_training import TrainConfig
from clip_qdrant_training import config as config_module
from clip_qdrant_training.config import recipe_names, recipe_path

KINDS = get_type_hints(TrainConfig)
CHOICES = {name: get_args(kind) for name, kind in KINDS.items() if get_origin(kind) is Literal}
FLOATS = [name for name, kind in KINDS.items() if float in (kind, *get_args(kind)) and get_origin(kind) is not tuple]

# A value for every option that is not its default, none of them at odds with another.
ALL_CHANGED: dict[str, Any] = {
    "image_encoder": "resnet18",
    "text_encoder": 'C:\\models\\名\x7f\U0001f600 "quoted"',
    "pretrained": False,
    "image_size": 192,
    "interpolation": "bilinear",
    "dim": 64,
    "pooling": "mean",
    "dropout": 0.25,
    "weights": (1.0, 0.5),
    "captions_per_image": 2,
    "hold_out": 0.2,
    "crop": 0.5,
    "ratio": 1.5,
    "colour": 0.1,
    "grey": 0.05,
    "flip": "unsided",
    "views": 2,
    "cache": "disk",
    "cache_gb": 0.5,
    "loss": "sigmoid",
    "temperature": 0.05,
    "distill": 0.5,
    "teacher": "teacher.pt",
    "anchors": "anchors.txt",
    "anchors_per_step": 16,
    "distill_images": 0.25,
    "epochs": 3,
    "batch_size": 32,
    "chunk_size": 8,
    "head_lr": 1e-17,
    "image_lr": 2e-4,
    "text_lr": 0.0,
    "weight_decay": 0.1,
    "encoder_weight_decay": 0.2,
    "schedule": "constant",
    "warmup": 0.1,
    "clip_norm": 0.0,
    "freeze_encoders": False,
    "frozen_stages": 1,
    "frozen_layers": 1,
    "last_layers": None,
    "freeze": ("*.bias", "text_encoder.*[0-3].weight"),
    "lora": 4,
    "lora_scale": 0.5,
    "batch_norm": "frozen",
    "precision": "float32",
    "ema": 0.99,
    "wise_ft": True,
    "early_stopping": 2,
    "save_every": 10,
    "seed": -7,
    "device": "cpu",
    "threads": 1,
}
# Options whose other values contradict chunk_size, lora or frozen_stages, which the table above has.
KEPT = {"batch_norm", "freeze_encoders", "last_layers"}


def recipe(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_table_of_this_test_changes_every_option() -> None:
    config = TrainConfig(**ALL_CHANGED)
    assert set(ALL_CHANGED) == {item.name for item in fields(TrainConfig)}
    same = {item.name for item in fields(config) if getattr(config, item.name) == item.default}
    assert same == KEPT


def test_a_recipe_is_written_and_read_back_the_same(tmp_path: Path) -> None:
    for config in (
        TrainConfig(),
        TrainConfig(**ALL_CHANGED),
        TrainConfig(batch_norm="train", cache_gb=1e22, head_lr=1e-5),
    ):
        assert TrainConfig.load(recipe(tmp_path, config.to_toml())) == config
        assert TrainConfig(**config.to_dict()) == config


def test_a_recipe_is_one_line_an_option_and_leaves_out_what_is_not_given() -> None:
    lines = TrainConfig(freeze=("a*", "b*")).to_toml().splitlines()
    assert "epochs = 10" in lines
    assert 'freeze = ["a*", "b*"]' in lines
    assert "pretrained = true" in lines
    assert not [line for line in lines if line.startswith(("teacher", "dropout"))]


def test_options_win_over_changes_and_changes_over_the_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, "epochs = 3\nseed = 3\nviews = 3\n")
    config = TrainConfig.load(path, ["seed=4", "views=4", "seed=5"], views=6)
    assert (config.epochs, config.seed, config.views) == (3, 5, 6)
    assert TrainConfig.load() == TrainConfig()
    assert TrainConfig.load(path, teacher=None) == replace(TrainConfig(), epochs=3, seed=3, views=3)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("epochs=3", 3),
        (" image_lr = 5e-5 ", 5e-5),
        ("head_lr=1", 1.0),
        ("pretrained=False", False),
        ("freeze_encoders=TRUE", True),
        ("teacher=none", None),
        ("threads=null", None),
        ("cache=off", "off"),
        ("loss='sigmoid'", "sigmoid"),
        ("weights=1,0.5", (1.0, 0.5)),
        ("weights=[1, 0.5]", (1.0, 0.5)),
        ("weights=2", (2.0,)),
        ("weights=", ()),
        ("freeze=*.bias", ("*.bias",)),
        ("freeze=image_encoder.*, text_encoder.*[0-3]", ("image_encoder.*", "text_encoder.*[0-3]")),
        ('freeze=["a", "b"]', ("a", "b")),
        ("text_encoder=models/a=b", "models/a=b"),
        ("text_encoder=2024", "2024"),
        ("device=0", "0"),
        ("device=true", "true"),
    ],
)
def test_a_change_is_read_as_a_person_types_it(change: str, value: Any) -> None:
    read = getattr(TrainConfig.load(None, [change]), change.partition("=")[0].strip())
    assert read == value
    assert type(read) is type(value)


def test_a_change_without_a_value_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match=r"'epochs' is not a change: write key=value, as in epochs=3"):
        TrainConfig.load(None, ["epochs"])


@pytest.mark.parametrize("text", ["", "three", "1.5", "{[]}", "((((", "__import__('os')", "true", "none"])
def test_a_change_that_is_no_whole_number_is_refused_as_it_was_typed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"epochs is .*: it must be a whole number"):
        TrainConfig.load(None, [f"epochs={text}"])


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("epoch", "did you mean epochs"),
        ("imagelr", "did you mean image_lr"),
        ("color", "did you mean colour"),
        ("zzz", "there are image_encoder, .*, threads"),
    ],
)
def test_an_unknown_option_is_answered_with_those_that_are_close(tmp_path: Path, key: str, hint: str) -> None:
    wrong = f"unknown option '{key}': {hint}"
    with pytest.raises(ConfigError, match=wrong):
        TrainConfig.load(None, [f"{key}=3"])
    with pytest.raises(ConfigError, match=wrong):
        TrainConfig.load(**{key: 3})
    with pytest.raises(ConfigError, match=wrong):
        TrainConfig.load(recipe(tmp_path, f"{key} = 3\n"))


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_each_choice_can_be_made_and_another_is_answered_with_all_of_them(name: str) -> None:
    for choice in CHOICES[name]:
        assert getattr(TrainConfig(**{name: choice}), name) == choice
    for wrong in ("nonsense", None, 1, ["off"]):
        with pytest.raises(ConfigError) as caught:
            TrainConfig(**{name: wrong})
        assert str(caught.value).startswith(f"{name} is {wrong!r}: ")
        assert all(choice in str(caught.value) for choice in CHOICES[name])


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_finite_number_is_refused_everywhere(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}: it must be"):
        TrainConfig(**{name: value})
    with pytest.raises(ConfigError, match=f"weights is .*{value}"):
        TrainConfig(weights=(1.0, value))


@pytest.mark.parametrize("name", sorted(set(KINDS) - set(CHOICES)))
def test_a_value_of_another_type_is_refused_by_name(name: str) -> None:
    for value in (object(), {"a": 1}, 1j):
        with pytest.raises(ConfigError, match=f"^{name} is .*: it must be (a|text|true)"):
            TrainConfig(**{name: value})


def test_true_is_no_number_and_a_number_is_not_true() -> None:
    for name, value, wanted in (
        ("epochs", True, "a whole number"),
        ("head_lr", True, "a number"),
        ("pretrained", 1, "true or false"),
        ("batch_size", 2.0, "a whole number"),
        ("device", 0, "text"),
        ("freeze", "*.bias", "a list"),
    ):
        with pytest.raises(ConfigError, match=f"{name} is {value!r}: it must be {wanted}".replace("*", r"\*")):
            TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("epochs", (0, -1), "above 0"),
        ("head_lr", (0.0, -1e-3), "above 0"),
        ("dim", (0,), "above 0"),
        ("captions_per_image", (0,), "above 0"),
        ("cache_gb", (0.0,), "above 0"),
        ("threads", (0,), "at least 1"),
        ("chunk_size", (0,), "at least 1"),
        ("views", (0,), "at least 1"),
        ("anchors_per_step", (0,), "at least 1"),
        ("image_size", (0,), "at least 1"),
        ("clip_norm", (-1.0,), "0 or more"),
        ("lora", (-1,), "0 or more"),
        ("lora_scale", (0.0,), "above 0"),
        ("last_layers", (-1,), "0 or more"),
        ("image_lr", (-1e-9,), "0 or more"),
        ("weight_decay", (-0.1,), "0 or more"),
        ("frozen_stages", (-1,), "0 or more"),
        ("early_stopping", (-1,), "0 or more"),
        ("warmup", (1.0, -0.1), "from 0 to below 1"),
        ("ema", (1.0,), "from 0 to below 1"),
        ("dropout", (1.0, -0.1), "from 0 to below 1"),
        ("temperature", (0.0, 0.009, 1.5), "(above 0|from 0.01 to 1)"),
        ("crop", (0.0, 1.1), "a share of the area, above 0 and up to 1"),
        ("ratio", (0.9,), "a stretch, from 1"),
        ("colour", (1.0, -0.1), "a share, from 0 to below 1"),
        ("grey", (1.1,), "a probability, from 0 to 1"),
        ("seed", (2**63, -(2**63) - 1), "a number that fits 64 bits"),
    ],
)
def test_a_value_out_of_range_is_told_with_the_range(name: str, values: tuple[float, ...], wanted: str) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"{name} is {value}: it must be {wanted}"):
            TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 1}, "batch_size is 1: .* at least 2 pairs"),
        ({"weights": (1.0, 0.0)}, r"weights is \(1.0, 0.0\): each must be a number above 0"),
        ({"batch_norm": "train", "chunk_size": 8}, "batch_norm is 'train' and chunk_size .* use batch_norm=frozen"),
        ({"loss": "soft_targets", "captions_per_image": 2}, "captions_per_image must be 1 with loss=soft_targets"),
        ({"anchors": "a.txt"}, "anchors is 'a.txt' but distill is 0: give the weight"),
        ({"distill_images": 0.5}, "distill_images is 0.5 but distill is 0: give the weight"),
        ({"teacher": "best.pt"}, "teacher is 'best.pt' but distill is 0: give the weight"),
        ({"last_layers": 2, "frozen_stages": 1}, "last_layers is 2, and frozen_stages.* give one of them"),
        ({"lora": 4, "freeze_encoders": True}, "lora is 4, and no layer .*leave out lora, or freeze less"),
    ],
)
def test_options_that_contradict_each_other_are_refused_with_a_way_out(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        TrainConfig(**options)


def test_a_config_goes_through_pickle_and_cannot_be_changed() -> None:
    config = TrainConfig(**ALL_CHANGED)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(FrozenInstanceError):
        config.epochs = 4  # type: ignore[misc]  # what is tested
    with pytest.raises(ConfigError, match=r"unknown option 'epoch': did you mean epochs"):
        TrainConfig(epoch=3)  # type: ignore[call-arg]  # what is tested


def test_options_that_only_seem_to_contradict_each_other_are_taken() -> None:
    TrainConfig(batch_norm="train", chunk_size=64, batch_size=64)
    TrainConfig(loss="soft_targets", temperature=4.0)
    assert TrainConfig(teacher=Path("best.pt"), distill=1).teacher == "best.pt"  # type: ignore[arg-type]  # a path


def test_an_unreadable_recipe_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*mine\.toml: .*line 1"):
        TrainConfig.load(recipe(tmp_path, "epochs = = 3\n"))
    (tmp_path / "latin.toml").write_bytes(b"device = '\xff'")
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*latin\.toml"):
        TrainConfig.load(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="unknown option 'data'"):
        TrainConfig.load(recipe(tmp_path, "[data]\ncrop = 0.5\n"))


def test_recipes_go_by_name_and_an_unknown_one_is_answered_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, epochs in (("fast", 1), ("v1.5", 2)):
        (tmp_path / f"{name}.toml").write_text(f"epochs = {epochs}\n")
    monkeypatch.setattr(config_module, "_PACKAGED", tmp_path)
    assert recipe_names() == ["fast", "v1.5"]
    assert recipe_path("fast") == tmp_path / "fast.toml"
    assert recipe_path(tmp_path / "fast.toml") == tmp_path / "fast.toml"
    assert [TrainConfig.load(name).epochs for name in ("fast", "v1.5")] == [1, 2]
    for wrong in ("slow", str(tmp_path / "slow.toml"), "../fast", ""):
        with pytest.raises(ConfigError, match=r"there is no recipe '.*': give a \.toml file, or one of fast, v1\.5"):
            TrainConfig.load(wrong)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_with_the_package_can_be_used(name: str) -> None:
    assert TrainConfig.load(name) == TrainConfig(**tomllib.loads(recipe_path(name).read_text(encoding="utf-8")))
