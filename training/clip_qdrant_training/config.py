"""One training configuration: a frozen pydantic dataclass, made of a TOML recipe and `key=value` changes.

    TrainConfig.load("tutorial", ["epochs=3", "image_lr=5e-5"])      # a recipe by name, or a path to a .toml file

Recipes lie in training/recipes, each with the figure it reached.
"""

from __future__ import annotations

import ast
import functools
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass

from clip_qdrant.errors import ConfigError
from clip_qdrant_training.data.augment import Augmentation

__all__ = ["TrainConfig", "recipe_names", "recipe_path"]

_PACKAGED = Path(__file__).parent / "recipes"
_IN_REPOSITORY = Path(__file__).parent.parent / "recipes"


T = TypeVar("T")

# What a message says of a value that is none of these.
_ABOVE_0 = Field(gt=0, description="above 0")
_AT_LEAST_0 = Field(ge=0, description="0 or more")
_AT_LEAST_1 = Field(ge=1, description="at least 1")
_BELOW_1 = Field(ge=0, lt=1, description="from 0 to below 1")
_64_BITS = Field(ge=-(2**63), lt=2**63, description="a number that fits 64 bits")
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "finite",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
}

_Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
_LIST = Strict(False)  # recipes have lists, not tuples
_HEAD_LR, _IMAGE_LR, _TEXT_LR = 1e-3, 1e-4, 1e-5  # of the tutorial lineage


def _tell_errors(cls: type[T]) -> type[T]:
    """A pydantic dataclass that raises ConfigError for a value it cannot have."""
    validate = cls.__init__

    @functools.wraps(validate)
    def init(self: T, *values: Any, **options: Any) -> None:
        try:
            validate(self, *values, **options)
        except ValidationError as error:
            raise _explain(cls, error) from error

    cls.__init__ = init  # type: ignore[assignment]  # of the same signature
    return cls


@_tell_errors
@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class TrainConfig:
    """How to train. Learning rates are peaks: of a linear warm-up, and then of `schedule`, half a cosine down to zero,
    the peak all along, or a fifth less whenever two epochs bring no better recall on the validation pairs ("plateau").

    Start: the given checkpoint or the bundled weights, or anew from `image_encoder` (a timm name) and `text_encoder`
    (a transformers name or folder), with `dim`-wide heads; `pretrained=False` leaves the image encoder random, and
    `image_size` and `interpolation` replace what timm says it was trained with.
    `freeze_encoders` trains the heads alone: minutes on a CPU. `frozen_stages` freezes the first stages of the image
    encoder (the stem counts as the first), `frozen_layers` the word embeddings (1) and the first layers of the text
    encoder, `last_layers` all but the last of both, `freeze` every parameter whose name matches one of the patterns.
    What does not learn is computed once for each of `views` augmented views of an image, and kept. With `lora`
    adapters of that rank learn in place of the encoders' weights, and become part of these in the end.
    `loss` "auto" is that of the start's family: sigmoid for SigLIP, info_nce for all else.
    Learning rates default to those of the tutorial lineage, which the recipe "tutorial" follows in all, or to what
    published models are fine-tuned with (`peak_rates`).
    `wise_ft` ends a run with mixes of start and end (Wortsman et al. 2022), of which the best on the validation pairs
    is kept.
    """

    # start
    image_encoder: _Text | None = None
    text_encoder: _Text | None = None
    pretrained: bool = True
    image_size: Annotated[int | None, _AT_LEAST_1] = None
    interpolation: Literal["auto", "bilinear", "bicubic", "opencv_bilinear"] = "auto"
    dim: Annotated[int, _ABOVE_0] = 256
    pooling: Literal["cls", "mean"] = "cls"
    dropout: Annotated[float | None, _BELOW_1] = None  # of the heads; None leaves that of the start
    # data
    weights: Annotated[tuple[float, ...], _LIST] = ()  # one for each set of pairs: how often a pair is seen in an epoch
    captions_per_image: Annotated[int, _ABOVE_0] = 1
    # The share of the images that judges where no validation pairs are given: at least 20, at most a third or 1,000.
    hold_out: Annotated[float, _BELOW_1] = 0.1
    crop: float = 0.6  # the smallest share of the area that is seen
    ratio: float = 1.25
    colour: float = 0.2
    grey: float = 0.0
    flip: Literal["off", "words", "unsided"] = "words"
    views: Annotated[int, _AT_LEAST_1] = 4
    cache: Literal["memory", "disk", "off"] = "memory"
    cache_gb: Annotated[float, _ABOVE_0] = 2.0
    # loss
    loss: Literal["auto", "info_nce", "sigmoid", "soft_targets"] = "auto"
    # The one to start from; None leaves that of the start (soft_targets: 1).
    temperature: Annotated[float | None, _ABOVE_0] = None
    distill: Annotated[float, _AT_LEAST_0] = 0.0  # weight of a teacher's in-batch similarities
    teacher: _Text | None = None  # its checkpoint; None takes the start itself
    anchors: _Text | None = None  # a file of texts, one a line: the teacher is followed on these, not on the captions
    anchors_per_step: Annotated[int, _AT_LEAST_1] = 64
    distill_images: Annotated[float, _AT_LEAST_0] = 0.0  # weight of how the teacher sees each image among all anchors
    # optimisation
    epochs: Annotated[int, _ABOVE_0] = 10
    batch_size: int = 64
    # GradCache: pairs in memory at once; None takes the whole batch.
    chunk_size: Annotated[int | None, _AT_LEAST_1] = None
    # None takes what suits the start: see `peak_rates`.
    head_lr: Annotated[float | None, _ABOVE_0] = None
    image_lr: Annotated[float | None, _AT_LEAST_0] = None
    text_lr: Annotated[float | None, _AT_LEAST_0] = None
    weight_decay: Annotated[float, _AT_LEAST_0] = 1e-3
    encoder_weight_decay: Annotated[float | None, _AT_LEAST_0] = None  # None takes that of the heads
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: Annotated[float, _BELOW_1] = 0.05  # share of all steps
    clip_norm: Annotated[float, _AT_LEAST_0] = 1.0  # 0 is off
    freeze_encoders: bool = False
    frozen_stages: Annotated[int, _AT_LEAST_0] = 0
    frozen_layers: Annotated[int, _AT_LEAST_0] = 0
    last_layers: Annotated[int | None, _AT_LEAST_0] = None  # of both encoders learn; in place of what is frozen first
    freeze: Annotated[tuple[_Text, ...], _LIST] = ()
    lora: Annotated[int, _AT_LEAST_0] = 0  # rank of the adapters that learn in place of encoders' weights; 0 is off
    lora_scale: Annotated[float, _ABOVE_0] = 1.0  # what they make counts by
    batch_norm: Literal["frozen", "train"] = "frozen"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Decay a step of the averaged weights, which are then what is judged and kept; 0 is off.
    ema: Annotated[float, _BELOW_1] = 0.0
    wise_ft: bool = False  # in the end, mix start and end by what is best on the validation pairs
    early_stopping: Annotated[int, _AT_LEAST_0] = 0  # epochs without improvement; 0 is off
    # Steps between saved states within an epoch; 0 saves at the end of epochs.
    save_every: Annotated[int, _AT_LEAST_0] = 0
    seed: Annotated[int, _64_BITS] = 0
    device: _Text = "auto"
    threads: Annotated[int | None, _AT_LEAST_1] = None

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size is {self.batch_size}: a contrastive loss needs at least 2 pairs to tell apart"
            )
        if not all(weight > 0 for weight in self.weights):
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
        if self.last_layers is not None and (self.frozen_stages or self.frozen_layers or self.freeze_encoders):
            raise ConfigError(
                f"last_layers is {self.last_layers}, and frozen_stages, frozen_layers or freeze_encoders say the same "
                "in another way: give one of them"
            )
        if self.lora and (self.freeze_encoders or self.last_layers == 0):
            raise ConfigError(
                f"lora is {self.lora}, and no layer of the encoders is to learn: leave out lora, or freeze less"
            )
        if self.distill_images and not self.distill:
            raise ConfigError(f"distill_images is {self.distill_images} but distill is 0: give the weight of both")
        self.augmentation  # noqa: B018  # checks its fields

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(crop=self.crop, ratio=self.ratio, colour=self.colour, grey=self.grey, flip=self.flip)

    def settle(self, *, published: bool, biased: bool) -> TrainConfig:
        """The config for a start, nothing left to it: `published` by others or of our own kind, and `biased` if it has
        the bias of SigLIP's loss."""
        loss = self.loss_of(biased=biased)
        if loss == "soft_targets" and published:
            raise ConfigError(
                "loss is 'soft_targets', which wants rows as the heads of the CLIP tutorial make them; for a published "
                "model info_nce and sigmoid are possible"
            )
        heads = self.freeze_encoders or self.last_layers == 0
        if published:
            head, image, text = 1e-4 if heads else 1e-5, 1e-5, 1e-5
        else:
            head, image, text = _HEAD_LR, _IMAGE_LR, _TEXT_LR
        if self.lora:
            image = text = 2e-4
        return replace(
            self,
            loss=loss,
            head_lr=head if self.head_lr is None else self.head_lr,
            image_lr=image if self.image_lr is None else self.image_lr,
            text_lr=text if self.text_lr is None else self.text_lr,
        )

    def loss_of(self, *, biased: bool) -> Literal["info_nce", "sigmoid", "soft_targets"]:
        """The loss: what is asked for, or that of the network's family."""
        if self.loss != "auto":
            return self.loss
        return "sigmoid" if biased else "info_nce"

    def peak_rates(self) -> Mapping[Literal["heads", "image", "text"], float]:
        """The highest learning rate of each part, by default that of the tutorial lineage. `settle` has given others
        to a published model: 1e-5 as in FLYP (Goyal et al. 2023), more for heads that learn alone, and for adapters
        2e-4 as in CLIP-LoRA (Zanella and Ben Ayed 2024)."""
        return {
            "heads": _HEAD_LR if self.head_lr is None else self.head_lr,
            "image": _IMAGE_LR if self.image_lr is None else self.image_lr,
            "text": _TEXT_LR if self.text_lr is None else self.text_lr,
        }

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
        close = get_close_matches(key, known, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"unknown option {key!r}: {hint}")


def _explain(cls: type, error: ValidationError) -> ConfigError:
    """What is wrong with the first value that is wrong: the key, the value, and what is possible."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of __post_init__
        found: ConfigError = first["ctx"]["error"]
        return found
    name, value = str(first["loc"][0]), first["input"]
    _check_known(name)
    if first["type"] == "literal_error":
        *others, last = get_args(get_type_hints(cls)[name])
        return ConfigError(f"{name} is {value!r}: {', '.join(others)} and {last} are possible")
    wanted = _KINDS.get(first["type"]) or cls.__pydantic_fields__[name].description  # type: ignore[attr-defined]
    return ConfigError(f"{name} is {value!r}: it must be {wanted}")
