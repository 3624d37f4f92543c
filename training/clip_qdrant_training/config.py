"""One training configuration: a frozen dataclass, made of a TOML recipe and `key=value` changes, checked by key.

    TrainConfig.load("tutorial", ["epochs=3", "image_lr=5e-5"])      # a recipe by name, or a path to a .toml file

Recipes lie in training/recipes, each with the figure it reached.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clip_qdrant.errors import ConfigError
from clip_qdrant_training.data.augment import Augmentation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["TrainConfig", "recipe_names", "recipe_path"]

_PACKAGED = Path(__file__).parent / "recipes"
_IN_REPOSITORY = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Learning rates are peaks: of a linear warm-up, and then of `schedule`, half a cosine down to zero,
    the peak all along, or a fifth less whenever two epochs bring no better recall on the validation pairs ("plateau").

    Start: the given checkpoint or the bundled weights, or anew from `image_encoder` (a timm name) and `text_encoder`
    (a transformers name or folder), with `dim`-wide heads; `pretrained=False` leaves the image encoder random, and
    `image_size` and `interpolation` replace what timm says it was trained with.
    `freeze_encoders` trains the heads alone: minutes on a CPU. `frozen_stages` freezes the first stages of the image
    encoder (the stem counts as the first), `frozen_layers` the word embeddings (1) and the first layers of the text
    encoder, `freeze` every parameter whose name matches one of the patterns. `unfreeze_after` epochs the encoders
    begin to learn: all that may, or, with `unfreeze_stages`, so many stages and layers more an epoch, from the heads
    down. What never learns is computed once for each of `views` augmented views of an image, and kept.
    Learning rates and weight decay default to those of the tutorial lineage; the recipe "tutorial" follows it in all.
    """

    # start
    image_encoder: str | None = None
    text_encoder: str | None = None
    pretrained: bool = True
    image_size: int | None = None
    interpolation: Literal["auto", "bilinear", "bicubic"] = "auto"
    dim: int = 256
    pooling: Literal["cls", "mean"] = "cls"
    dropout: float | None = None  # of the heads; None leaves that of the start
    # data
    weights: tuple[float, ...] = ()  # one for each set of pairs: how often a pair is seen in an epoch
    captions_per_image: int = 1
    crop: float = 0.6  # the smallest share of the area that is seen
    ratio: float = 1.25
    colour: float = 0.2
    grey: float = 0.0
    flip: Literal["off", "words", "unsided"] = "words"
    views: int = 4
    cache: Literal["memory", "disk", "off"] = "memory"
    cache_gb: float = 2.0
    # loss
    loss: Literal["info_nce", "sigmoid", "soft_targets"] = "info_nce"
    temperature: float | None = None  # the one to start from; None leaves that of the start (soft_targets: 1)
    label_smoothing: float = 0.0
    hardness: float = 0.0
    distill: float = 0.0  # weight of a teacher's in-batch similarities
    teacher: str | None = None  # its checkpoint; None takes the start itself
    anchors: str | None = None  # a file of texts, one a line: the teacher is followed on these, not on the captions
    anchors_per_step: int = 64
    # optimisation
    epochs: int = 10
    batch_size: int = 64
    chunk_size: int | None = None  # GradCache: pairs in memory at once; None takes the whole batch
    head_lr: float = 1e-3
    image_lr: float = 1e-4
    text_lr: float = 1e-5
    weight_decay: float = 1e-3
    encoder_weight_decay: float | None = None  # None takes that of the heads
    layer_decay: float = 1.0  # factor of the learning rate from a layer to the one before it
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: float = 0.05  # share of all steps
    clip_norm: float = 1.0  # 0 is off
    freeze_encoders: bool = False
    frozen_stages: int = 0
    frozen_layers: int = 0
    freeze: tuple[str, ...] = ()
    unfreeze_after: int = 0
    unfreeze_stages: int = 0
    batch_norm: Literal["frozen", "train"] = "frozen"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    ema: float = 0.0  # decay a step of the averaged weights, which are then what is judged and kept; 0 is off
    early_stopping: int = 0  # epochs without improvement; 0 is off
    save_every: int = 0  # steps between saved states within an epoch; 0 saves at the end of epochs
    seed: int = 0
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        kinds = get_type_hints(TrainConfig)
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item.name, getattr(self, item.name), kinds[item.name]))
        _require(self, "above 0", lambda v: v > 0, "epochs head_lr dim captions_per_image cache_gb temperature")
        _require(self, "at least 1", lambda v: v >= 1, "threads chunk_size views image_size anchors_per_step")
        _require(
            self,
            "0 or more",
            lambda v: v >= 0,
            "image_lr text_lr weight_decay encoder_weight_decay clip_norm frozen_stages frozen_layers unfreeze_after "
            "unfreeze_stages early_stopping hardness distill save_every",
        )
        _require(self, "from 0 to below 1", lambda v: 0 <= v < 1, "warmup label_smoothing ema dropout")
        _require(self, "above 0 and at most 1", lambda v: 0 < v <= 1, "layer_decay")
        _require(self, "a number that fits 64 bits", lambda v: -(2**63) <= v < 2**63, "seed")
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size is {self.batch_size}: a contrastive loss needs at least 2 pairs to tell apart"
            )
        if not all(0 < weight < math.inf for weight in self.weights):  # false for a NaN
            raise ConfigError(f"weights is {self.weights}: each must be a number above 0")
        if self.chunk_size is not None and self.chunk_size < self.batch_size and self.batch_norm == "train":
            raise ConfigError(
                "batch_norm is 'train' and chunk_size is below batch_size: statistics of chunks are not those of the "
                "batch; use batch_norm=frozen"
            )
        if self.loss == "soft_targets" and self.captions_per_image != 1:
            raise ConfigError(
                "captions_per_image must be 1 with loss=soft_targets, which pairs each image with one text"
            )
        if self.loss != "info_nce" and (self.label_smoothing or self.hardness):
            raise ConfigError(f"label_smoothing and hardness are options of loss=info_nce, not of {self.loss}")
        if self.loss != "soft_targets" and self.temperature is not None and not 0.01 <= self.temperature <= 1:
            raise ConfigError(
                f"temperature is {self.temperature}: it must be from 0.01 to 1, which the logit scale is kept within"
            )
        if self.teacher is not None and not self.distill:
            raise ConfigError(f"teacher is {self.teacher!r} but distill is 0: give the weight of the teacher")
        if self.anchors is not None and not self.distill:
            raise ConfigError(
                f"anchors is {self.anchors!r} but distill is 0: give the weight of what is not to be forgotten"
            )
        self.augmentation  # noqa: B018  # checks its fields

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(crop=self.crop, ratio=self.ratio, colour=self.colour, grey=self.grey, flip=self.flip)

    @classmethod
    def load(cls, recipe: str | Path | None = None, changes: Iterable[str] = (), **options: Any) -> TrainConfig:
        """The config of a recipe (a name or a .toml file), then of `key=value` changes, then of options.

        Raises ConfigError that names the key, the value and what is possible.
        """
        values = {} if recipe is None else _read_recipe(recipe)
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise ConfigError(f"{change!r} is not a change: write key=value, as in epochs=3")
            values[key.strip()] = _from_text(key.strip(), text.strip())
        values.update(options)
        for key in values:
            _check_known(key)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `TrainConfig(**values)` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def to_toml(self) -> str:
        """A recipe file that gives this config."""
        import json

        # JSON's text is TOML's but for pairs of surrogates and DEL.
        given = {name: value for name, value in self.to_dict().items() if value is not None}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in given.items()]
        return "".join(lines).replace("\x7f", "\\u007f")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def recipe_path(recipe: str | Path) -> Path:
    """The file of a recipe by name, or the path itself. Raises ConfigError naming the recipes there are."""
    path = Path(recipe)
    if path.suffix != ".toml":
        path = _folder() / f"{recipe}.toml"
    if not path.is_file():
        raise ConfigError(
            f"there is no recipe {str(recipe)!r}: give a .toml file, or one of {', '.join(recipe_names())}"
        )
    return path


def _folder() -> Path:
    return _PACKAGED if _PACKAGED.is_dir() else _IN_REPOSITORY


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = recipe_path(recipe)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from error


def _from_text(key: str, text: str) -> Any:
    """A value as a person types it: numbers, true, none, a list with commas, or text without quotes."""
    _check_known(key)
    kind = get_type_hints(TrainConfig)[key]
    if get_origin(kind) is tuple:
        inner = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
        return tuple(_literal(part.strip()) for part in inner.split(",") if part.strip())
    value = _literal(text)
    # A folder may be called 2024: what is to be text stays as it was typed.
    return text if value is not None and str in (kind, *get_args(kind)) and not isinstance(value, str) else value


def _literal(text: str) -> Any:
    words: Mapping[str, Any] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval says it raises
        return text


def _check_known(key: str) -> None:
    known = [item.name for item in fields(TrainConfig)]
    if key not in known:
        from difflib import get_close_matches

        close = get_close_matches(key, known, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"unknown option {key!r}: {hint}")


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value in the field's type, whole numbers as floats where those are wanted; ConfigError for another type."""
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        if value not in choices:
            raise ConfigError(
                f"{name} is {value!r}: {', '.join(map(str, choices[:-1]))} and {choices[-1]} are possible"
            )
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} is {value!r}: it must be a list")
        return tuple(_checked(name, each, choices[0]) for each in value)
    optional = type(None) in choices
    if optional and value is None:
        return None
    [wanted] = [each for each in choices if each is not type(None)] if optional else [kind]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is str and isinstance(value, Path):
        return str(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise ConfigError(f"{name} is {value!r}: it must be {words[wanted]}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}: it must be finite")
    return value


def _require(config: TrainConfig, what: str, holds: Any, names: str) -> None:
    for name in names.split():
        value = getattr(config, name)
        if value is not None and not holds(value):  # a NaN holds nothing
            raise ConfigError(f"{name} is {value!r}: it must be {what}")
