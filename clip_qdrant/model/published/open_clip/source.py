"""Where a model of open_clip lies: its configuration, its file of weights and its tokenizer, found but not yet read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.hub.faults import explain_fault, is_out_of_reach
from clip_qdrant.hub.files import OPEN_CLIP_WEIGHTS, list_files, refuse_no_weights
from clip_qdrant.model.published.open_clip.library import find_tag, import_open_clip, list_close, read_architecture
from clip_qdrant.model_names import HubName

__all__ = ["OpenClipSource", "find_named", "read_folder"]

_CONFIG = "open_clip_config.json"
# In the order in which open_clip looks for them.
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


@dataclass(frozen=True)
class OpenClipSource:
    """`model` and `preprocess` are open_clip's model_cfg and preprocess_cfg; `label` is what the user wrote."""

    label: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    tokenizer: str  # the folder or repository of a transformers tokenizer; "" for CLIP's own


def find_named(name: str, label: str) -> OpenClipSource:
    """What ARCHITECTURE/TAG or ARCHITECTURE/FILE names, downloaded if it is not there. Raises CheckpointError."""
    architecture, _, rest = name.partition("/")
    if Path(name).is_dir() or ":" in architecture:
        raise CheckpointError(f"{label} is not how a folder or repository is named: hf:{name.rpartition(':')[2]}")
    model = read_architecture(architecture)
    tags: list[str] = import_open_clip().list_pretrained_tags_by_model(architecture)
    if not rest:
        ways = ", ".join(f"open_clip:{architecture}/{tag}" for tag in tags[:8]) or f"open_clip:{architecture}/FILE"
        raise CheckpointError(f"{label} names an architecture and no weights; there are {ways}")
    tag = find_tag(architecture, rest)
    if tag:
        if tag.get("quick_gelu"):  # a matter of the weights, whatever the architecture says
            model["quick_gelu"] = True
        weights = _fetch_tag(str(tag.get("hf_hub") or ""), label)
        return OpenClipSource(label, model, dict(tag), weights, _name_tokenizer(model))
    if not Path(rest).is_file():
        raise CheckpointError(
            f"open_clip has no weights {rest!r} for {architecture}, and there is no such file{list_close(rest, tags)}"
        )
    return OpenClipSource(label, model, {}, Path(rest), _name_tokenizer(model))


def read_folder(folder: Path, label: str) -> OpenClipSource:
    """What a folder with an open_clip_config.json describes. Raises CheckpointError."""
    try:
        values = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        model, preprocess = dict(values["model_cfg"]), dict(values.get("preprocess_cfg") or {})
        model |= {part: dict(model[part]) for part in ("vision_cfg", "text_cfg")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{label} has an {_CONFIG} that cannot be read: {first_line(error)}") from error
    weights = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        refuse_no_weights(list_files(folder), label, _WEIGHTS)
    tokenizer = _name_tokenizer(model)
    own = any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json"))
    return OpenClipSource(label, model, preprocess, weights, str(folder) if tokenizer and own else tokenizer)


def _fetch_tag(place: str, label: str) -> Path:
    """The file of the weights in OWNER/NAME/FILE, or in OWNER/NAME/ by its usual name."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, file = place.rpartition("/")
    if not repository:
        raise CheckpointError(f"the weights of {label} are not on the hub: download their file, and name that")
    names = (f"{Path(file).stem}.safetensors", file) if file else OPEN_CLIP_WEIGHTS
    for each in names:  # what lies there is used without asking the network
        if isinstance(there := try_to_load_from_cache(repository, each), str):
            return Path(there)
    for each in names:
        try:
            return Path(hf_hub_download(repository, each))
        except Exception as error:  # the hub's library raises its own errors, those of HTTP, and those of the disk
            # It calls a hub that is out of reach a file that is not there, too.
            if isinstance(error, EntryNotFoundError) and not is_out_of_reach(error):
                continue
            raise explain_fault(error, HubName(repository), list) from error
    raise CheckpointError(
        f"hf:{repository}, which has the weights of {label}, has no file {file or OPEN_CLIP_WEIGHTS[0]}"
    )


def _name_tokenizer(model: dict[str, Any]) -> str:
    return str(model["text_cfg"].get("hf_tokenizer_name") or "")
