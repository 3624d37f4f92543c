"""A checkpoint whose encoders multiply in int8: a file for ONNX Runtime alone, which is faster where the processor is.

Matrices are rounded to int8 by output channel, and what they are multiplied with by range as it comes ("dynamic"), by
the tools of ONNX Runtime. Convolutions stay in float32: see docs/decisions/0027-int8.md for what was measured.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from clip_qdrant.checkpoint_file.fingerprint import compute_fingerprint
from clip_qdrant.checkpoint_file.read import Side
from clip_qdrant.errors import ExportError, first_line
from clip_qdrant.log_handlers import keep_log_handlers
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.saving import write_checkpoint
from clip_qdrant.runtime.onnx import weight_file

__all__ = ["Quantized", "quantize"]

_LEAST_TAKEN_OUT = 1024  # bytes of a tensor that a graph does not keep
_MULTIPLICATIONS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Quantized:
    """Encoders in int8, as a file holds them."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    graphs: Mapping[str, Any]
    fingerprint: str

    def write(self, checkpoint: Checkpoint, path: Path) -> str:
        """Write one file of them and of what a checkpoint says besides, and return the fingerprint.

        Raises as `save_checkpoint`.
        """
        return write_checkpoint(
            checkpoint,
            path,
            config=self.config,
            weights=self.weights,
            graphs=self.graphs,
            fingerprint=self.fingerprint,
        )


def quantize(checkpoint: Checkpoint) -> Quantized:
    """The encoders of a checkpoint that has its graphs, in int8. Raises ExportError where nothing can be rounded."""
    assert checkpoint.graphs is not None
    graphs: dict[str, Any] = {**checkpoint.graphs, "identity": {"precision": "int8", "of": checkpoint.model.identity()}}
    weights: dict[str, Tensor] = {}
    sides: tuple[Side, ...] = ("image", "text")
    for side in sides:
        with keep_log_handlers():
            content, taken = _quantize(side, checkpoint, checkpoint.graphs[side])
        graphs[side] = {
            "graph": torch.frombuffer(bytearray(content), dtype=torch.uint8),
            "sha256": hashlib.sha256(content).hexdigest(),
            "weights": list(taken),
        }
        weights.update(taken)
    fingerprint = compute_fingerprint(
        graphs["identity"],
        checkpoint.preprocessing,
        checkpoint.tokenization,
        checkpoint.tokenizer,
        ((name, tensor.numpy()) for name, tensor in sorted(weights.items())),
    )
    return Quantized({"family": "int8", "of": checkpoint.fingerprint()}, weights, graphs, fingerprint)


def _quantize(side: Side, checkpoint: Checkpoint, graph: Mapping[str, Any]) -> tuple[bytes, dict[str, Tensor]]:
    model = onnx.load_model_from_string(graph["graph"].numpy().tobytes())
    state = checkpoint.model.state_dict()
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            name = next(entry.value for entry in tensor.external_data if entry.key == "location")
            array = state[name.removeprefix(weight_file(""))].detach().cpu().contiguous().numpy()
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with tempfile.TemporaryDirectory(prefix="clip-qdrant-int8-") as scratch:
        given, folded, made = (Path(scratch, f"{name}.onnx") for name in ("given", "folded", "made"))
        # Tensors lie beside the graphs: a message of protobuf ends at 2 GB.
        onnx.save_model(model, str(given), save_as_external_data=True, location="given.data")
        del model
        try:
            # Matrices that the graph transposes are constants afterwards, which alone are rounded.
            quant_pre_process(
                str(given),
                str(folded),
                skip_symbolic_shape=True,
                save_as_external_data=True,
                external_data_location="folded.data",
            )
            quantize_dynamic(
                folded,
                made,
                op_types_to_quantize=list(_MULTIPLICATIONS),
                per_channel=True,
                weight_type=QuantType.QInt8,  # unsigned ones have no fast multiplication
                use_external_data_format=True,
                extra_options={"MatMulConstBOnly": True},
            )
        except Exception as error:  # the tools raise whatever they meet
            raise ExportError(f"cannot round the {side} encoder to int8: {first_line(error)}") from error
        return _take_weights_out(side, onnx.load_model(str(made)))


def _take_weights_out(side: Side, model: onnx.ModelProto) -> tuple[bytes, dict[str, Tensor]]:
    """The graph without its larger tensors, and those by the names under which a file has them."""
    weights = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes < _LEAST_TAKEN_OUT:
            continue
        name = f"{side}/{tensor.name}"
        weights[name] = _store(array)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        set_external_data(tensor, weight_file(name), 0, array.nbytes)
        tensor.ClearField("raw_data")
    del model.graph.value_info[:]
    return model.SerializeToString(), weights


def _store(array: np.ndarray) -> Tensor:
    """As float16 where that rounds nothing."""
    tensor = torch.from_numpy(array.copy())
    if tensor.is_floating_point() and torch.equal(tensor.half().to(tensor.dtype), tensor):
        return tensor.half()
    return tensor
