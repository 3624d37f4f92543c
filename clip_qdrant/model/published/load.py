"""`hf:<name or folder>`: a published model as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.hub.files import is_open_clip
from clip_qdrant.hub.snapshots import fetch_descriptions, fetch_weights
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.published.encoder import HubEncoder
from clip_qdrant.model.published.families import FAMILIES
from clip_qdrant.model.published.hub import load_hub_config, load_hub_model
from clip_qdrant.model.published.open_clip.load import load_open_clip
from clip_qdrant.model.published.open_clip.source import read_folder
from clip_qdrant.model.published.pairs.load import find_image_text_folder
from clip_qdrant.model.published.pairs.modules import has_modules
from clip_qdrant.model.published.processor import find_processor, read_preprocessing
from clip_qdrant.model.published.texts import read_texts
from clip_qdrant.model.weights import list_some

__all__ = ["load_published"]


def load_published(name: str) -> Checkpoint:
    """A model of one of the families that load, by its hub name, with or without a revision, or folder.

    Raises CheckpointError, before the weights are downloaded where that can be told, when it cannot be read, is of
    another family, or has no tokenizer the `tokenizers` library can run.
    """
    snapshot = fetch_descriptions(name)
    shown, name = f"hf:{name}", str(snapshot.folder)
    if is_open_clip(snapshot.folder):
        fetch_weights(snapshot)
        return load_open_clip(read_folder(snapshot.folder, shown), trained_on=snapshot.label)
    if has_modules(snapshot.folder):
        name = str(find_image_text_folder(snapshot.folder, shown, tuple(FAMILIES)))
    config = load_hub_config(name, shown, families=tuple(FAMILIES))
    try:
        preprocessing = read_preprocessing(find_processor(Path(name), shown), config, shown)
        tokenizer, tokenization = read_texts(Path(name), config, shown)
    except CheckpointError:
        raise
    except Exception as error:  # its files may hold anything
        raise CheckpointError(f"cannot load {shown}: {first_line(error)}") from error
    fetch_weights(snapshot)
    model, missing, unknown = load_hub_model(name, shown, config)
    if missing:
        hint = f"; it has others ({list_some(sorted(unknown), 3)}): are they of another model?" if unknown else ""
        raise CheckpointError(f"the weights of {shown} are not whole: {list_some(sorted(missing))} missing{hint}")
    encoder = HubEncoder(model.float(), preprocessing).eval()
    checkpoint = Checkpoint(encoder, preprocessing, tokenization, tokenizer, trained_on=(snapshot.label,))
    probe_checkpoint(checkpoint, shown)
    return checkpoint
