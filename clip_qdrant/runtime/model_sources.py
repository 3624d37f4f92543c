"""Where the models that users name come from: what a note calls them, and the files that their vectors depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from clip_qdrant.content import BUNDLED, bundled_checkpoint
from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.hub.snapshots import find_commit
from clip_qdrant.model_names import find_folder, parse_hub_name, split_pair, suggest_name
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ModelSource", "find_source"]


@dataclass(frozen=True)
class ModelSource:
    """A model by its name. `files` are those of this computer that it is read from, none for a name of the hub."""

    name: str  # the same for every way to write a path, with the commit that the hub's cache has of a name
    files: tuple[Path, ...]
    asked: str  # the name without a look at that cache, which may be gone
    kind: str = ""  # what the files alone do not say
    checkpoint: Path | None = None  # a file that may carry its graphs

    def hash_content(self) -> str:
        """sha256 over names and bytes of the files; "" without files. Raises CheckpointError."""
        if not self.files:
            return ""
        digest = hashlib.sha256(self.kind.encode())
        try:
            for file in self.files:
                digest.update(f"\0{file.name if len(self.files) > 1 else ''}\0{file.stat().st_size}\0".encode())
                with file.open("rb") as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
        except OSError as error:
            raise CheckpointError(f"cannot read the model {mask_secrets(self.asked)}: {error.strerror}") from error
        return digest.hexdigest()


def find_source(source: str) -> ModelSource:
    """The source of a name as users write it, found without torch. Raises CheckpointError where there is nothing."""
    try:
        return _find(source)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        why = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(mask_secrets(f"cannot read the model {source}: {why}{suggest_name(source)}")) from error


def _find(source: str) -> ModelSource:
    if pair := split_pair(source):
        image, text = _find(str(bundled_checkpoint()) if pair[0] == BUNDLED else pair[0]), _find(f"hf:{pair[1]}")
        names = (f"{image.name} + {text.name}", f"{image.asked} + {text.asked}")
        if not (image.files and text.files):  # one is of the hub
            return ModelSource(names[0], (*image.files, *text.files), names[1], kind=f"pair {names[0]}")
        return ModelSource(names[0], (*image.files, *text.files), names[1], kind=f"pair {image.kind} {text.kind}")
    if source.startswith("open_clip:"):
        architecture, _, rest = source.removeprefix("open_clip:").partition("/")
        if not Path(rest).is_file():  # what lies behind a tag stays as it is
            return ModelSource(source, (), source)
        name = f"open_clip:{architecture}/{Path(rest).resolve()}"
        return ModelSource(name, (Path(rest),), name, kind=f"open_clip:{architecture}")
    if source.startswith("hf:"):
        published = source.removeprefix("hf:")
        if (folder := find_folder(published)) is not None:
            name = f"hf:{folder.resolve()}"
            files = sorted(file for file in (*folder.glob("*"), *folder.glob("*/*")) if file.is_file())
            return ModelSource(name, tuple(files), name, kind="hf")
        wanted = parse_hub_name(published)
        commit = find_commit(published)
        return ModelSource(f"hf:{wanted.repository}@{commit}" if commit else str(wanted), (), str(wanted))
    path = Path(source)
    if not path.exists():
        raise CheckpointError(mask_secrets(f"there is no checkpoint at {source}{suggest_name(source)}"))
    if path.is_dir():
        raise CheckpointError(f"cannot read the model {source}: it is a folder{suggest_name(source)}")
    name = str(path.resolve())
    return ModelSource(name, (path,), name, checkpoint=path)
