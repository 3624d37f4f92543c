"""A checkpoint's two encoders as ONNX models without weights, which its file carries.

An initializer that is a tensor of the state dict is left out and refers to it by name. So that no other large ones
appear, nothing is folded that such a tensor goes into (batch norms into convolutions, transposed matrices): ONNX
Runtime does that when it opens the graph. What is left are shapes and small constants, some 100 KB.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from torch import Tensor, nn

from clip_qdrant.checkpoint_file.read import GRAPHS_FORMAT, Side
from clip_qdrant.errors import ExportError, first_line
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant.runtime.onnx import OnnxRuntime, weight_file

__all__ = ["make_graphs"]

_TOLERANCE = 1e-4
_MOST_KEPT = 8 << 20  # bytes of a graph; the largest that are needed have 1 MB
_MAKERS = ("torch", "onnxscript", "onnx-ir", "onnx")


class _Method(nn.Module):
    """One method of a network as a module, which is what the exporter takes."""

    def __init__(self, owner: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.owner = owner
        self.method = method

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.method(*inputs)


@dataclass(frozen=True)
class _Exported:
    """What a file will carry, as a source of encoders before it is written."""

    checkpoint: Checkpoint
    graphs: Mapping[Side, tuple[bytes, list[str]]]
    path: Path = Path("the checkpoint")

    def meta(self) -> dict[str, Any]:
        return {"dim": self.checkpoint.model.dim}

    def read_graph(self, side: Side) -> bytes:
        return self.graphs[side][0]

    def list_weights(self, side: Side) -> list[str]:
        return self.graphs[side][1]

    def read_weight(self, name: str) -> np.ndarray:
        array: np.ndarray = self.checkpoint.model.state_dict()[name].detach().cpu().numpy()
        return array


def make_graphs(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint file holds as `graphs`: containers and tensors of bytes.

    Raises ExportError for a network that cannot be exported, or whose graphs do not reproduce torch's rows.
    """
    model, shape = checkpoint.model, checkpoint.preprocessing.shape
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8))
    tokenizer = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    ids, mask = (torch.from_numpy(array) for array in tokenizer(["a photo of a dog", "two"]))
    batch = torch.export.Dim("batch", min=1, max=4096)
    length = torch.export.Dim("length", min=1, max=checkpoint.tokenization.max_length)
    # A model that always pads to one length may compute with that length as a constant.
    text_shape = {0: batch} if checkpoint.tokenization.padding == "max_length" else {0: batch, 1: length}
    graphs: dict[Side, tuple[bytes, list[str]]] = {
        "image": _export(model, "image", (pixels,), ({0: batch},), ["pixels"]),
        "text": _export(model, "text", (ids, mask), (text_shape, text_shape), ["ids", "mask"]),
    }
    exported = _Exported(checkpoint, graphs)
    # A session each, one after the other: it holds the weights of its encoder once more.
    _compare("image", OnnxRuntime(exported).embed_pixels, model.encode_image, pixels)
    _compare("text", OnnxRuntime(exported).embed_tokens, model.encode_text, ids, mask)
    return {
        "format": GRAPHS_FORMAT,
        **checkpoint.structure(),
        "dim": model.dim,
        "vocabulary": model.vocabulary,
        "made_with": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _MAKERS),
        **{
            side: {
                "graph": torch.frombuffer(bytearray(graph), dtype=torch.uint8),
                "sha256": hashlib.sha256(graph).hexdigest(),
                "weights": weights,
            }
            for side, (graph, weights) in graphs.items()
        },
    }


def _export(
    owner: nn.Module, side: Side, inputs: tuple[Tensor, ...], shapes: tuple[object, ...], names: list[str]
) -> tuple[bytes, list[str]]:
    silence = contextlib.redirect_stdout(io.StringIO())  # the exporter prints its progress
    with warnings.catch_warnings(), silence, torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Method(owner, getattr(owner, f"encode_{side}")).eval(),
                inputs,
                input_names=names,
                output_names=["embeddings"],
                dynamo=True,
                dynamic_shapes=(shapes,),
                optimize=False,
                verbose=False,
            )
            return _take_weights_out(program, owner.state_dict().keys())
        except Exception as error:  # the exporter's passes raise whatever they meet
            raise_if_full(error, Path())
            raise ExportError(
                f"cannot export the {side} encoder to ONNX, set runtime to torch: {first_line(error)}"
            ) from error


def _take_weights_out(program: Any, names: Any) -> tuple[bytes, list[str]]:
    """The graph, optimised as far as it can be without its weights, and which weight each initializer is."""
    graph = program.model.graph
    weights = {}
    for name in list(graph.initializers):
        if name.removeprefix("owner.") in names:
            value = graph.initializers.pop(name)
            weights[value] = value.const_value
            value.const_value = None
            graph.inputs.append(value)  # an input is nothing that could be folded
    program.optimize()
    graph = program.model.graph
    used = []
    for value, tensor in weights.items():
        graph.inputs.remove(value)
        if value.uses():
            name = str(value.name).removeprefix("owner.")
            used.append(name)
            value.const_value = ir.ExternalTensor(
                weight_file(name), 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=str(value.name)
            )
            graph.register_initializer(value)
    model = ir.to_proto(program.model)
    for node in (model, model.graph, *model.graph.node):
        del node.metadata_props[:]  # where in the source of torch it comes from: nine tenths of the bytes
    del model.graph.value_info[:]
    content = model.SerializeToString()
    if len(content) > _MOST_KEPT:
        raise ExportError(f"its graph keeps {len(content):,} bytes beside the weights")
    return content, used


def _compare(side: Side, run: Callable[..., np.ndarray], encode: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Other batch sizes than the traced one, against torch."""
    for n in (1, 2):
        rows = [each[:n] for each in inputs]
        with torch.inference_mode():
            wanted = encode(*rows).numpy()
        gap = np.abs(run(*(each.numpy() for each in rows)) - wanted).max()
        if not gap <= _TOLERANCE:
            raise ExportError(f"the {side} encoder differs by {gap:.2e} from torch: set runtime to torch")
