"""Names of models as users write them: "bundled", the path of a checkpoint, or hf: and a name of the hub or folder.

open_clip:ARCHITECTURE/TAG is a model of open_clip, IMAGE_MODEL+hf:TEXT_MODEL the images of one model with a text model
of the same space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clip_qdrant.errors import CheckpointError, shorten

__all__ = ["HubName", "find_folder", "leave_out_folders", "parse_hub_name", "split_pair", "suggest_name"]

_FILES = (".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors")
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_WITH_OWNER = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)
_PAGE = re.compile(r"https?:/+(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)(?:/(?:tree|blob)/([^/?#]+))?")
# How architectures of open_clip begin.
_OPEN_CLIP = re.compile(
    r"(coca_|nllb-clip-|(xlm-)?roberta-[a-z-]*ViT|mt5-(base|xl)-ViT|ViT|RN\d|EVA0\d|MobileCLIP|PE-Core-|ViTamin-|convnext_|swin_"
    r"|vit_)[\w-]*/.+"
)
# How other programs mark names of the hub.
_PREFIXES = ("hf-hub:", "hf_hub:", "hf://", "timm:", "models/")
_LONGEST = 200
_PAIR = "+hf:"


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, and what of it: a branch, a tag or a commit; None is its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf:{self.repository}" + (f"@{self.revision}" if self.revision else "")


def find_folder(name: str) -> Path | None:
    """The folder that a name, without the hf: before it, is of; None where there is none."""
    return Path(name) if name and Path(name).is_dir() else None


def parse_hub_name(name: str) -> HubName:
    """OWNER/NAME or OWNER/NAME@REVISION, without the hf: before it. Raises CheckpointError for what is neither."""
    repository, at, revision = name.partition("@")
    shown = shorten(name, _LONGEST)
    if not name.strip():
        raise CheckpointError("hf: names no model: write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:FOLDER")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        page = _PAGE.match(name)
        meant = f"; this one is named hf:{_name_page(page)}" if page else ""
        if name.startswith("//"):  # hf://OWNER/NAME, as some write it
            meant = f"; this one is named hf:{name.strip('/')}"
        raise CheckpointError(
            f"there is no folder {shown}, nor is that a name of the hub, OWNER/NAME or OWNER/NAME@REVISION{meant}"
        )
    if at and (not revision or ".." in revision or not revision.isprintable() or " " in revision):
        raise CheckpointError(f"hf:{shown} names no revision after its @: write a branch, a tag or a commit hash")
    return HubName(repository, revision or None)


def split_pair(name: str) -> tuple[str, str] | None:
    """The image model and the text model (without its hf:) that a name is of, None for the name of one model."""
    image, plus, text = name.partition(_PAIR)
    return (image, text) if plus and image and text else None


def leave_out_folders(name: str) -> str:
    """The name of a model for those who do not know the folders here: files and folders by their own names alone."""
    if pair := split_pair(name):
        return "+".join(leave_out_folders(each) for each in (pair[0], f"hf:{pair[1]}"))
    kind, colon, place = name.partition(":") if name.startswith(("hf:", "open_clip:")) else ("", "", name)
    if kind == "open_clip":
        architecture, slash, tag = place.partition("/")
        kind, colon, place = f"{kind}:{architecture}", slash, tag
    return kind + colon + (Path(place).resolve().name if place and Path(place).exists() else place)


def suggest_name(source: str | Path) -> str:
    """The end of a message about a name behind which there is no checkpoint: what was meant, where that can be told."""
    name = str(source)
    if Path(name).is_dir():
        return f"; the folder of a published model is named hf:{name}"
    if page := _PAGE.match(name):
        return f"; a model of the Hugging Face hub is named hf:{_name_page(page)}"
    if _OPEN_CLIP.fullmatch(name):
        return f"; a model of open_clip is named open_clip:{name}"
    bare = next((name.removeprefix(prefix).strip("/") for prefix in _PREFIXES if name.startswith(prefix)), name)
    if _WITH_OWNER.fullmatch(bare) and not bare.lower().endswith(_FILES):
        return f"; a model of the Hugging Face hub is named hf:{bare}"
    return ""


def _name_page(page: re.Match[str]) -> str:
    return page[1] + (f"@{page[2]}" if page[2] and page[2] != "main" else "")
