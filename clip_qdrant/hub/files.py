"""Which files of a repository make a model: descriptions first, then one set of weights for each of its folders."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from clip_qdrant.errors import CheckpointError

__all__ = [
    "CONFIGS",
    "OPEN_CLIP_WEIGHTS",
    "TOKENIZERS",
    "WEIGHTS",
    "choose_descriptions",
    "choose_weights",
    "find_weights",
    "is_open_clip",
    "is_whole",
    "list_files",
    "refuse_image_model",
    "refuse_no_config",
    "refuse_no_weights",
    "refuse_pointers",
]

# What says what the model is, one of these in any repository that can be used: of transformers, of open_clip, of
# sentence-transformers.
CONFIGS = ("config.json", "open_clip_config.json", "modules.json")
_DESCRIPTIONS = (".json", ".txt", ".model")
# A tokenizer is in one of these; a folder without any would get one of three tokens from transformers.
TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "open_clip_config.json")
# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TENSORS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # files that may hold weights, under any name
_LARGEST_INDEX = 50 << 20  # bytes
_POINTER, _LARGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1024  # bytes, as its specification has them
# What a repository or folder without a usable config is, by a file in it: the first that fits is told.
_KINDS = (
    ("adapter_config.json", "an adapter (LoRA) for another model: merge it into that one with peft, save the folder of "
     "the whole model, and name it hf:FOLDER"),
    ("model_index.json", "a pipeline of diffusers, which makes images"),
    (".gguf", "a file for llama.cpp (GGUF)"),
    (".onnx", "ONNX files alone: take the repository that they were made from"),
    (".mlmodel", "files for Core ML: take the repository that they were made from"),
    (".mlpackage", "files for Core ML: take the repository that they were made from"),
    (".tflite", "files for TensorFlow Lite"),
    (".safetensors", "weights without the configuration that says of what network they are"),
    (".bin", "weights without the configuration that says of what network they are"),
    (".pt", "weights without the configuration that says of what network they are; a checkpoint of this package is "
     "named by its path on this machine, without hf:"),
)  # fmt: skip


# What other libraries than torch read, by the end of its name.
_OTHER_WEIGHTS = (
    (".h5", "TensorFlow"),
    (".msgpack", "Flax"),
    (".onnx", "ONNX Runtime"),
    (".mlmodel", "Core ML"),
    (".gguf", "llama.cpp"),
)


def list_files(folder: Path) -> list[str]:
    """The files of a folder and of those in it, as a repository lists them."""
    files = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def choose_descriptions(names: Iterable[str], folder: Path) -> list[str]:
    """Configurations, processors and tokenizers: the small files of the root, and of the folders of its modules."""
    places = {"", *_list_modules(folder)}
    return [name for name in names if _place(name) in places and name.endswith(_DESCRIPTIONS)]


def choose_weights(names: Collection[str], folder: Path) -> list[str]:
    """The files of the weights, in the format that is best read of those there are, of the root and of each module.

    `folder` has the descriptions. Empty if the root, or a module that is a network, has none.
    """
    chosen: list[str] = []
    for place in ("", *_list_modules(folder)):
        wanted = OPEN_CLIP_WEIGHTS if place == "" and is_open_clip(folder) else WEIGHTS
        prefix = f"{place}/" if place else ""
        inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        chosen += [prefix + name for name in find_weights(inside, folder / place, wanted)]
    return chosen


def find_weights(names: Collection[str], folder: Path, wanted: Iterable[str] = WEIGHTS) -> list[str]:
    """The files of the weights of one folder: the first of those wanted that is there and, where that is an index, the
    files that it names after it. Empty if there is none. Raises CheckpointError for an index that names what is not.
    """
    found = next((name for name in wanted if name in names), None)
    if found is None:
        return []
    if not found.endswith(".json"):
        return [found]
    parts = _read_json(folder / found).get("weight_map")
    listed = sorted({str(part) for part in parts.values()}) if isinstance(parts, Mapping) else []
    if missing := [name for name in listed if name not in names]:
        raise CheckpointError(f"{folder / found} names the file {missing[0]}, which is not there")
    return [found, *listed]


def refuse_image_model(folder: Path, label: object) -> None:
    """Raises CheckpointError for a model of timm, which has no text encoder, and no configuration of transformers."""
    config = _read_json(folder / "config.json")
    others = [name for name in CONFIGS[1:] if (folder / name).is_file()]
    if not others and "architecture" in config and "model_type" not in config:
        raise CheckpointError(
            f"{label} is an image model of timm ({config['architecture']!s:.60}), without a text encoder: a new model "
            "can be trained with it (--image-encoder)"
        )


def refuse_pointers(names: Collection[str], folder: Path, label: object) -> None:
    """Raises CheckpointError for a file that a clone of a repository without Git LFS has in place of a large one."""
    for name in (*choose_descriptions(names, folder), *choose_weights(names, folder)):
        file = folder / name
        if file.is_file() and file.stat().st_size <= _LARGEST_POINTER and file.read_bytes().startswith(_POINTER):
            raise CheckpointError(
                f"{label} has a {name} that is a pointer of Git LFS and not the file itself: `git lfs pull` in the "
                "folder brings it"
            )


def is_open_clip(folder: Path) -> bool:
    """Whether it is to be loaded as one of open_clip: what transformers loads by itself is taken as one of that."""
    config = _read_json(folder / "config.json")
    own = "model_type" in config and "auto_map" not in config
    return (folder / "open_clip_config.json").is_file() and not own


def is_whole(folder: Path) -> bool:
    """Whether what is in a folder is all that a model of images and texts needs: other programs fetch parts."""
    names = list_files(folder)
    ends = {PurePosixPath(name).name for name in names}
    try:
        weights = choose_weights(names, folder)
    except CheckpointError:
        return False
    return bool(weights and ends.intersection(TOKENIZERS) and ends.intersection(_PROCESSORS))


def refuse_no_config(names: Collection[str], label: object) -> None:
    """Raises CheckpointError for files of which none says what the model is, and tells what they are instead."""
    if not any(name in names for name in CONFIGS):
        raise CheckpointError(f"{label} is no model of images and texts: {_describe_contents(names)}")


def refuse_no_weights(names: Collection[str], label: object, wanted: Iterable[str] = WEIGHTS) -> NoReturn:
    """Raises CheckpointError for files without weights that are read here, and tells which there are instead."""
    told = f"{label} has no weights for torch by a name that is read here ({', '.join(wanted)})"
    # Not what else training leaves: training_args.bin, optimizer.pt.
    files = sorted(name for name in names if name.endswith(_TENSORS) and _is_of_model(name))
    if files:
        raise CheckpointError(
            f"{told}; {files[0]} is not one: if it has the weights, give it such a name in a folder with the other "
            "files, and name that hf:FOLDER"
        )
    if kinds := [words for end, words in _OTHER_WEIGHTS if any(name.endswith(end) for name in names)]:
        raise CheckpointError(f"{told}, only some for {' and '.join(kinds)}: take a model that has them for torch")
    raise CheckpointError(f"{told}, nor any others")


def _is_of_model(name: str) -> bool:
    stem = PurePosixPath(name).stem
    return not stem.startswith(("training_args", "optimizer", "scheduler", "rng_state", "scaler"))


def _describe_contents(names: Collection[str]) -> str:
    """What is in a repository or folder that has no configuration of a model: for a message."""
    if not [name for name in names if not PurePosixPath(name).name.startswith(".") and not name.endswith(".md")]:
        return "it is empty"
    for end, words in _KINDS:
        if any(name.endswith(end) or f"{end}/" in name for name in names):
            return f"it holds {words}"
    return f"it has neither of {', '.join(CONFIGS)}"


def _list_modules(folder: Path) -> list[str]:
    """The folders of a model of sentence-transformers, which are one below its own."""
    modules = _read_json(folder / "modules.json", [])
    paths = [str(module.get("path") or "") for module in modules if isinstance(module, Mapping)]
    return [path for path in paths if path and "/" not in path and not path.startswith(".")]


def _read_json(path: Path, default: Any = None) -> Any:
    """What is in a file, {} or `default` if it is not there or not of that kind: whoever loads the model tells why."""
    default = {} if default is None else default
    try:
        if path.stat().st_size > _LARGEST_INDEX:
            return default
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return default
    return content if isinstance(content, type(default)) else default


def _place(name: str) -> str:
    return name.rpartition("/")[0]
