"""Checkpoints: one self-describing file that holds everything to embed with.

The file is a `torch.save` of plain containers and tensors: `format, config, preprocessing, tokenization, tokenizer,
weights, trained_on, metrics, prompts, calibration, fingerprint, graphs`. It is read with `weights_only=True`, so
nothing in it is ever executed, and needs no network: the tokenizer is inside. `graphs` are both encoders as ONNX models
without weights, by which `clip_qdrant/checkpoint_file` opens the file without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from clip_qdrant.calibration.curves import Calibration
from clip_qdrant.checkpoint_file.description import describe
from clip_qdrant.checkpoint_file.fingerprint import compute_fingerprint
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["Checkpoint", "EncoderPair"]


class EncoderPair(Protocol):
    """What a checkpoint's network offers, whichever family it is of."""

    @property
    def dim(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    def config_dict(self) -> dict[str, Any]: ...  # what builds it anew, with its family
    def identity(self) -> dict[str, Any]: ...  # what of that changes vectors
    def encode_image(self, pixels: Tensor) -> Tensor: ...
    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Checkpoint:
    """A network with all it needs to embed images and texts. `model` is in eval mode, float32, on the CPU."""

    model: Any  # an nn.Module that is an EncoderPair; Python has no intersection types
    preprocessing: Preprocessing
    tokenization: Tokenization
    tokenizer: str  # the text of a tokenizer.json
    trained_on: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    prompts: Prompts | None = None
    calibration: Calibration | None = None
    # Its encoders as its file carries them, without weights: right for any weights of the same network.
    graphs: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the network: `family` and that family's fields."""
        config: dict[str, Any] = self.model.config_dict()
        return config

    def meta(self) -> dict[str, Any]:
        """What an embedder must know of it to embed on whatever runtime, in JSON types."""
        return {"fingerprint": self.fingerprint(), "dim": self.model.dim, **describe(self)}

    def structure(self) -> dict[str, Any]:
        """What its graphs depend on: all that goes into the fingerprint but weights and tokenizer."""
        return {
            "identity": self.model.identity(),
            "preprocessing": self.preprocessing.to_dict(),
            "tokenization": self.tokenization.to_dict(),
        }

    def fingerprint(self) -> str:
        """sha256 over the float32 weights and all that shapes a vector: equal for a half-precision copy read back."""
        module: nn.Module = self.model
        weights = sorted(module.state_dict().items())
        return compute_fingerprint(
            module.identity(),  # type: ignore[operator]  # an EncoderPair
            self.preprocessing,
            self.tokenization,
            self.tokenizer,
            ((name, tensor.detach().cpu().numpy()) for name, tensor in weights),
        )
