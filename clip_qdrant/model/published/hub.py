"""Models of transformers from a folder: read without running code of theirs, and in bounded memory.

What a model brings along is data to us: `trust_remote_code` is False everywhere, so nothing is asked on stdin either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as hub_logging

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.hub.faults import explain_fault, is_of_hub
from clip_qdrant.hub.files import TOKENIZERS, find_weights, list_files, refuse_no_weights
from clip_qdrant.model.plan import build_plan, check_attention
from clip_qdrant.model.published.families import explain_family
from clip_qdrant.model.published.json_files import read_values
from clip_qdrant.model.published.token_warnings import pass_over_token_warnings
from clip_qdrant.model.weights import check_archive, list_some
from clip_qdrant.model_names import HubName

__all__ = ["load_hub_config", "load_hub_model", "load_hub_tokenizer"]

_MOST_TENSORS = 5_000  # in a file that does not say how many it has; the largest CLIP models have 1,500


def load_hub_config(name: str, label: str, *, families: tuple[str, ...] = ()) -> Any:
    """The configuration, which must be of one of `families` if there are any. `label` is the name in messages.

    `name` is a folder or, where another model names it, a repository. Raises CheckpointError.
    """
    with _reading(label, name):
        read_values(Path(name) / "config.json", label)  # which transformers takes to hold names and values
        values, _ = PretrainedConfig.get_config_dict(name)
        if families and not values.get("model_type"):
            _refuse(f"{label} has a config.json without model_type, which says what model it is: copy that file anew")
        if families and values.get("model_type") not in families:
            _refuse(f"{label} {explain_family(values.get('model_type'))}")
        check_attention(values)
        if values.get("quantization_config"):
            _refuse(f"{label} has quantized weights: choose the model that they were made of")
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_hub_model(name: str, label: str, config: Any) -> tuple[Any, set[str], set[str]]:
    """The network with its weights, the names of those that the files lack, and of those that are none of its own.

    Raises CheckpointError for weights of other shapes, and for a configuration whose network is larger than the files
    before anything is allocated.
    """
    auto: Any = AutoModel
    with _reading(label, name):
        folder = Path(name)
        names = list_files(folder)
        files = [folder / file for file in find_weights(names, folder) if not file.endswith(".json")]
        if not files:
            refuse_no_weights(names, label)
        for file in files:
            check_archive(file)
        most = sum(map(_count_tensors, files))
        plan = build_plan(lambda: auto.from_config(config, trust_remote_code=False), most)
        numbers = sum(tensor.numel() for tensor in (*plan.parameters(), *plan.buffers()))
        room = sum(file.stat().st_size for file in files)
        if numbers > room:
            _refuse(
                f"cannot load {label}: its configuration describes a network of {numbers:,} numbers, and its files "
                f"have only {room:,} bytes"
            )
        with _without_bars():  # a second's work, drawn on stderr beside a log
            model, told = auto.from_pretrained(
                name, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
            )
        if told["mismatched_keys"]:
            shapes = sorted(
                f"{key} is {_spell(has)}, not {_spell(wants)}" for key, has, wants in told["mismatched_keys"]
            )
            _refuse(f"the weights of {label} do not fit its configuration: {list_some(shapes)}")
        return model, set(told["missing_keys"]), set(told["unexpected_keys"])


def load_hub_tokenizer(name: str, label: str) -> Any:
    """The tokenizer in a folder or, where another model names it, a repository. Raises CheckpointError."""
    there = [file for file in TOKENIZERS if (Path(name) / file).is_file()]
    if there and all(file.endswith(".model") for file in there) and find_spec("sentencepiece") is None:
        _refuse(
            f"{label} has no tokenizer.json, and its {there[0]} takes the sentencepiece library: pip install "
            "sentencepiece, or copy a tokenizer.json of the same tokenizer beside it"
        )
    with _reading(label, name):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    bars: Any = hub_logging  # without types
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@contextlib.contextmanager
def _reading(label: str, name: str) -> Iterator[None]:
    """Whatever transformers raises becomes a CheckpointError that says what was read, and from where."""
    try:
        with pass_over_token_warnings():
            yield
    except CheckpointError:
        raise
    except Exception as error:  # a file may make it meet anything
        if "trust_remote_code" in str(error):
            raise CheckpointError(
                f"cannot load {label}: it comes with code of its own (auto_map), which is not run here; choose a model "
                "that transformers knows by itself"
            ) from error
        if not Path(name).is_dir() and is_of_hub(error):
            told = explain_fault(error, HubName(name), list)
            raise CheckpointError(f"cannot load {label}: its text model is of another repository: {told}") from error
        raise CheckpointError(f"cannot load {label}: {first_line(error)}") from error


def _refuse(message: str) -> NoReturn:
    raise CheckpointError(message)


def _spell(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _count_tensors(file: Path) -> int:
    if file.suffix != ".safetensors":
        return _MOST_TENSORS
    with safe_open(file, framework="pt") as tensors:
        return len(tensors.keys())
