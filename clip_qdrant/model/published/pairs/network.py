"""Two encoders of one space that come from two models: the image half of one, and a text model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.pairs.text_encoder import SentenceEncoder
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["BuildNetwork", "PairEncoder", "build_pair", "keep_weights", "list_image_weights"]

BuildNetwork = Callable[[dict[str, Any], Preprocessing], nn.Module]


class PairEncoder(nn.Module):
    """`image` is a network whose texts are not asked for. Raises CheckpointError for vectors of two lengths."""

    def __init__(self, image: Any, text: SentenceEncoder) -> None:
        super().__init__()
        if image.dim != text.dim:
            raise CheckpointError(
                f"its image model gives vectors of {image.dim} numbers and its text model vectors of {text.dim}: they "
                "are of two spaces"
            )
        self.image: Any = image
        self.text = text

    @property
    def dim(self) -> int:
        return self.text.dim

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return self.text.vocabulary

    def config_dict(self) -> dict[str, Any]:
        return {
            "family": "pair",
            "image": self.image.config_dict(),
            "image_weights": [name for name, _ in self.image.named_parameters()],
            "text": self.text.config_dict(),
        }

    def identity(self) -> dict[str, Any]:
        return {"family": "pair", "image": self.image.identity(), "text": self.text.identity()}

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> unit rows (n, dim)."""
        rows: Tensor = self.image.encode_image(pixels)
        return rows

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 ids and mask (n, length) -> unit rows (n, dim)."""
        return F.normalize(self.text(ids, mask), dim=-1)


def build_pair(config: Mapping[str, Any], preprocessing: Preprocessing, build: BuildNetwork) -> PairEncoder:
    """The network of a saved configuration, with fresh weights. `build` makes the one that its images come from."""
    image = build(dict(config["image"]), preprocessing)
    keep_weights(image, config["image_weights"])
    return PairEncoder(image, SentenceEncoder(config["text"]))


def list_image_weights(image: Any, preprocessing: Preprocessing, build: BuildNetwork) -> list[str]:
    """The names of the weights that vectors of images depend on.

    Which these are is asked of a twin without contents, by the gradients that it has.
    """
    size = preprocessing.image_size
    with torch.device("meta"), torch.enable_grad():
        twin: Any = build(image.config_dict(), preprocessing).requires_grad_(True)
        names = [name for name, _ in twin.named_parameters()]
        rows = twin.encode_image(torch.zeros((1, size, size, 3), dtype=torch.uint8))
        gradients = torch.autograd.grad(rows.sum(), list(twin.parameters()), allow_unused=True)
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]


def keep_weights(network: nn.Module, names: Sequence[str]) -> None:
    """Takes all other weights out, which a file would hold and a fingerprint count."""
    kept = set(names)
    for name, _ in list(network.named_parameters()):
        if name not in kept:
            place, _, own = name.rpartition(".")
            owner = network.get_submodule(place)
            delattr(owner, own)
            setattr(owner, own, None)
