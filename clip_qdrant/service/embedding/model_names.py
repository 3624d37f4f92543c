"""What the model of a service is called by clients that have to name one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clip_qdrant.content import BUNDLED
from clip_qdrant.errors import NotServed, shorten

__all__ = ["ALWAYS_SERVED", "check_model", "list_model_names"]

ALWAYS_SERVED = "clip-qdrant"  # whatever the model is
_PREFIX = re.compile(r"(hf|open_clip):")


def list_model_names(model: str, aliases: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of a model that `ClipEmbedder.load` takes; the first is what answers call it.

    A model of a file is called by the name of the file. One of open_clip has the name that Immich has for it, too.
    """
    if model == BUNDLED:
        names = [f"{ALWAYS_SERVED}-{BUNDLED}"]
    elif found := _PREFIX.match(model):
        name = model[found.end() :]
        names = [name, model, name.replace("/", "__")] if found[1] == "open_clip" else [name, model]
    else:
        names = [re.split(r"[\\/]", model.rstrip("\\/"))[-1].removesuffix(".pt")]
    return tuple(dict.fromkeys([*names, ALWAYS_SERVED, *aliases]))


def check_model(name: str | None, names: Sequence[str]) -> None:
    """Raises NotServed for a name that is not the model's; None names it whatever it is."""
    if name is not None and name not in names:
        raise NotServed(
            f"the model {shorten(name, 200)!r} is not served here, whose vectors would be others; ask for "
            f"{' or '.join(map(repr, names))}"
        )
