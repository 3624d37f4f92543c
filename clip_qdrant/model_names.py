"""Names of models as users write them: "bundled", the path of a checkpoint, or hf: and a name of the hub or folder."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["suggest_name"]

_FILES = (".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors")


def suggest_name(source: str | Path) -> str:
    """The end of a message about a name behind which there is no checkpoint: what was meant, where that can be told."""
    name = str(source)
    if Path(name).is_dir():
        return f"; the folder of a CLIP or SigLIP model is named hf:{name}"
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not name.lower().endswith(_FILES):
        return f"; a model of the Hugging Face hub is named hf:{name}"
    return ""
