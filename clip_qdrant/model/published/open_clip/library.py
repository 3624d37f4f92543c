"""open_clip itself, imported where it is needed, and what it knows by name: architectures and pretrained tags."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from clip_qdrant.errors import CheckpointError, MissingExtra

__all__ = ["find_tag", "import_open_clip", "list_close", "read_architecture"]

_PARALLELISM = "TOKENIZERS_PARALLELISM"


def import_open_clip() -> Any:
    """The library. Raises MissingExtra."""
    before = os.environ.get(_PARALLELISM)
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtra("open_clip_torch", "open-clip", "a model of open_clip") from error
    # It switches the threads of all tokenizers off, also of ours.
    if before is None:
        os.environ.pop(_PARALLELISM, None)
    else:
        os.environ[_PARALLELISM] = before
    return open_clip


def read_architecture(name: str) -> dict[str, Any]:
    """The configuration of an architecture. Raises CheckpointError that lists names close to it."""
    library = import_open_clip()
    names = library.list_models()
    if name not in names:
        raise CheckpointError(f"open_clip has no architecture {name!r}{list_close(name, names)}")
    return deepcopy(dict(library.get_model_config(name)))


def find_tag(architecture: str, tag: str) -> Mapping[str, Any]:
    """What open_clip says of pretrained weights: where they are, and how images are prepared. Empty for no tag."""
    found: Mapping[str, Any] = import_open_clip().get_pretrained_cfg(architecture, tag)
    return found


def list_close(name: str, names: Iterable[str], *, many: int = 5) -> str:
    """The end of a message: the names that are most like one that is not among them."""
    by_lower = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=many, cutoff=0.4)
    return f"; similar: {', '.join(by_lower[each] for each in close)}" if close else ""
