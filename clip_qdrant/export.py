"""A model as one file that is opened without torch: in the precision that is asked for, and with what that costs.

    export_model("hf:openai/clip-vit-base-patch32", "vit-b-32-int8.pt", precision="int8")

The other layout is the folder that transformers reads (`export_folder`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from clip_qdrant.content import sample_gallery
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.errors import ConfigError
from clip_qdrant.torch_extra import require_torch

if TYPE_CHECKING:
    from clip_qdrant.model.checkpoint import Checkpoint

__all__ = ["PRECISIONS", "Closeness", "Export", "Precision", "export_folder", "export_model"]

Precision = Literal["float32", "float16", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8")
_STEP = 3  # every third picture of the gallery: large models take seconds for one


@dataclass(frozen=True)
class Closeness:
    """How near the vectors of an export are to those of its model in float32, over pictures of the sample gallery.

    Cosines of like vectors of pictures and of their titles, least and mean; `recall` is the share of titles to which
    their own picture is nearest, in percent, and `recall_before` that of the model.
    """

    image_cosine: float
    image_cosine_mean: float
    text_cosine: float
    text_cosine_mean: float
    recall: float
    recall_before: float


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    fingerprint: str
    bytes: int
    closeness: Closeness | None  # None in float32, which changes nothing


def export_model(model: str, output: str | Path, *, precision: Precision = "float32") -> Export:
    """Write any model (named as for `ClipEmbedder.load`) as one file that carries its encoders.

    "float16" and "bfloat16" round the weights, which are stored in half the size and become float32 again when they are
    used. "int8" multiplies matrices in int8: faster where the processor has instructions for it, and for ONNX Runtime
    alone. A file that rounds has a fingerprint of its own, and how near it stays is in its `metrics`.
    Raises CheckpointError, ExportError, MissingExtra, ConfigError, DiskFull.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: {', '.join(PRECISIONS)} are possible")
    require_torch("exporting a model")
    from clip_qdrant.model.loading import read_checkpoint
    from clip_qdrant.model.saving import take_graphs
    from clip_qdrant.runtime.onnx_export import make_graphs

    path, checkpoint, closeness = Path(output), read_checkpoint(model), None
    checkpoint = replace(checkpoint, graphs=take_graphs(checkpoint) or make_graphs(checkpoint))
    write = _prepare(checkpoint, precision)
    if precision != "float32":
        with tempfile.TemporaryDirectory(prefix="clip-qdrant-export-") as scratch:
            tried = Path(scratch, "tried.pt")
            write(checkpoint, tried)
            closeness = _measure(checkpoint, tried)
        known = {f"{precision}_{name}": value for name, value in asdict(closeness).items()}
        checkpoint = replace(checkpoint, metrics={**checkpoint.metrics, **known})
    fingerprint = write(checkpoint, path)
    return Export(path, fingerprint, path.stat().st_size, closeness)


def export_folder(model: str, output: str | Path) -> Export:
    """Write any model of transformers as the folder that transformers reads, in float32.

    Raises CheckpointError for a model of another kind, MissingExtra, DiskFull.
    """
    require_torch("exporting a model")
    from clip_qdrant.model.loading import read_checkpoint
    from clip_qdrant.model.published.save import save_transformers

    folder, checkpoint = Path(output), read_checkpoint(model)
    save_transformers(checkpoint, folder)
    return Export(folder, checkpoint.fingerprint(), sum(file.stat().st_size for file in folder.iterdir()), None)


def _prepare(checkpoint: Checkpoint, precision: Precision) -> Callable[[Checkpoint, Path], str]:
    """What writes the checkpoint in a precision, also with other metrics, and returns the fingerprint."""
    from clip_qdrant.model.saving import export_checkpoint
    from clip_qdrant.runtime.onnx_export import make_graphs
    from clip_qdrant.runtime.quantization import quantize

    if precision == "int8":
        return quantize(checkpoint).write
    return partial(export_checkpoint, graphs=make_graphs, precision=precision)


def _measure(checkpoint: Checkpoint, export: Path) -> Closeness:
    lines = (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()[::_STEP]
    rows = [json.loads(line) for line in lines]
    pictures, titles = [sample_gallery() / row["file_name"] for row in rows], [row["caption"] for row in rows]
    before = ClipEmbedder.from_checkpoint(checkpoint, device="cpu")
    after = ClipEmbedder.load(export, runtime="onnx", cache_dir=export.parent)
    images = [embedder.embed_images(pictures) for embedder in (before, after)]
    texts = [embedder.embed_texts(titles) for embedder in (before, after)]
    image_cosines, text_cosines = ((one * other).sum(axis=1) for one, other in (images, texts))
    ranked = [(t @ i.T).argmax(axis=1) for i, t in zip(images, texts, strict=True)]
    recall = [100 * float(np.mean(nearest == np.arange(len(rows)))) for nearest in ranked]
    return Closeness(
        image_cosine=float(image_cosines.min()),
        image_cosine_mean=float(image_cosines.mean()),
        text_cosine=float(text_cosines.min()),
        text_cosine_mean=float(text_cosines.mean()),
        recall=recall[1],
        recall_before=recall[0],
    )
