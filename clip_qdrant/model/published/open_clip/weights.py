"""Weights of open_clip, brought to the names that the network has. The library is given tensors, never a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.model.published.open_clip.library import import_open_clip

__all__ = ["rename_weights"]

_DECODER = "text_decoder."  # of CoCa: it writes captions
_POSITIONS = "text.transformer.embeddings.position_ids"  # of transformers before 4.31


def rename_weights(weights: Mapping[str, Any], plan: nn.Module) -> dict[str, Any]:
    """Weights of any class of open_clip, of OpenAI or of Apple's MobileCLIP, by the names of a CustomTextCLIP.

    `plan` is that network, on whatever device. Position embeddings of another size are resized, as open_clip does.
    """
    library = import_open_clip()
    strip = len("module.") if all(str(name).startswith("module.") for name in weights) else 0
    found = {str(name)[strip:]: value for name, value in weights.items()}
    found = {name: value for name, value in found.items() if not name.startswith(_DECODER) and name != _POSITIONS}
    for name in ("input_resolution", "context_length", "vocab_size"):  # of OpenAI's archives
        found.pop(name, None)
    found = dict(library.factory.convert_state_dict(plan, found))
    if "positional_embedding" in found:
        found = dict(library.factory.convert_to_custom_text_state_dict(found))
    if not all(isinstance(value, Tensor) for value in found.values()):
        return found  # told of by whoever compares them with the network
    for name in ("logit_scale", "logit_bias"):
        expected = getattr(plan, name, None)
        if expected is None:
            found.pop(name, None)
        elif name not in found and name == "logit_bias":
            found[name] = torch.zeros(expected.shape)
        elif found[name].numel() == expected.numel():
            found[name] = found[name].reshape(expected.shape)
    library.factory.resize_pos_embed(found, plan)
    if "text.positional_embedding" in found:
        library.factory.resize_text_pos_embed(found, plan)
    return found
