"""A checkpoint's two encoders as ONNX graphs, with everything else that embedding on ONNX Runtime needs.

The folder holds `image.onnx` (uint8 pixels -> unit rows), `text.onnx` (ids, mask -> unit rows), `tokenizer.json` and
`meta.json`, which is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clip_qdrant.errors import ExportError, first_line
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant.runtime.onnx import EXPORT_FORMAT, OnnxRuntime
from clip_qdrant.runtime.sealed_json import write_sealed

__all__ = ["export_onnx"]

logger = logging.getLogger(__name__)
_TOLERANCE = 1e-4


class _Method(nn.Module):
    """One method of a network as a module, which is what the exporter takes."""

    def __init__(self, owner: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.owner = owner
        self.method = method

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.method(*inputs)


def export_onnx(checkpoint: Checkpoint, folder: Path) -> str:
    """Write the folder and return the fingerprint. Raises ExportError when a graph does not reproduce torch's rows."""
    model, shape = checkpoint.model, checkpoint.preprocessing.shape
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8))
    tokenizer = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    ids, mask = (torch.from_numpy(array) for array in tokenizer(["a photo of a dog", "two"]))
    batch = torch.export.Dim("batch", min=1, max=4096)
    length = torch.export.Dim("length", min=1, max=checkpoint.tokenization.max_length)
    # A model that always pads to one length may compute with that length as a constant.
    text_shape = {0: batch} if checkpoint.tokenization.padding == "max_length" else {0: batch, 1: length}
    folder.mkdir(parents=True, exist_ok=True)
    _export(model, model.encode_image, (pixels,), ({0: batch},), folder / "image.onnx", ["pixels"])
    _export(model, model.encode_text, (ids, mask), (text_shape, text_shape), folder / "text.onnx", ["ids", "mask"])
    (folder / "tokenizer.json").write_text(checkpoint.tokenizer, encoding="utf-8")
    meta = {
        **checkpoint.meta(),
        "format": EXPORT_FORMAT,
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
    }
    write_sealed(folder / "meta.json", meta)
    _compare(model, OnnxRuntime(folder), pixels, ids, mask)
    return str(meta["fingerprint"])


def _export(
    owner: nn.Module,
    method: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    shapes: tuple[object, ...],
    path: Path,
    names: list[str],
) -> None:
    silence = contextlib.redirect_stdout(io.StringIO())  # the exporter prints its progress
    with warnings.catch_warnings(), silence, torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Method(owner, method).eval(),
                inputs,
                str(path),
                input_names=names,
                output_names=["embeddings"],
                dynamo=True,
                dynamic_shapes=(shapes,),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter's passes raise whatever they meet
            raise_if_full(error, path.parent)
            raise ExportError(
                f"cannot export the {path.stem} encoder to ONNX, set runtime to torch: {first_line(error)}"
            ) from error


def _compare(model: nn.Module, runtime: OnnxRuntime, pixels: Tensor, ids: Tensor, mask: Tensor) -> None:
    """Other batch sizes than the traced one, against torch."""
    with torch.inference_mode():
        for n in (1, 2):
            images = model.encode_image(pixels[:n])  # type: ignore[operator]  # an EncoderPair
            texts = model.encode_text(ids[:n], mask[:n])  # type: ignore[operator]
            gaps = {
                "image": np.abs(runtime.embed_pixels(pixels[:n].numpy()) - images.numpy()).max(),
                "text": np.abs(runtime.embed_tokens(ids[:n].numpy(), mask[:n].numpy()) - texts.numpy()).max(),
            }
            for name, gap in gaps.items():
                if not gap <= _TOLERANCE:
                    raise ExportError(f"the {name} encoder differs by {gap:.2e} from torch: set runtime to torch")
