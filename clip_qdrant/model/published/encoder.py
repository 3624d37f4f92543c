"""An image-text model of transformers behind `encode_image` and `encode_text`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.model.published.families import FAMILIES
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["HubEncoder", "build_encoder"]


class HubEncoder(nn.Module):
    """A transformers image-text model behind `encode_image` and `encode_text`."""

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.pixel_norm = PixelNorm(preprocessing)
        self.model: Any = model

    @property
    def family(self) -> str:
        return str(self.model.config.model_type)

    @property
    def dim(self) -> int:
        config = self.model.config
        return int(config.projection_dim if self.family == "clip" else config.vision_config.hidden_size)

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return int(self.model.config.text_config.vocab_size)

    def config_dict(self) -> dict[str, Any]:
        """The transformers configuration, without what differs from version to version."""
        values = json.loads(self.model.config.to_json_string(use_diff=True))
        values.pop("transformers_version", None)
        return {"family": "transformers", "model": values}

    def identity(self) -> dict[str, Any]:
        """What of the configuration goes into the fingerprint."""
        return self.config_dict()

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> unit rows (n, dim)."""
        features = self.model.get_image_features(pixel_values=self.pixel_norm(pixels)).pooler_output
        return F.normalize(features, dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 ids and mask (n, length) -> unit rows (n, dim). SigLIP is trained on padded text without a mask."""
        arguments = {"input_ids": ids} if self.family != "clip" else {"input_ids": ids, "attention_mask": mask}
        features = self.model.get_text_features(**arguments).pooler_output
        if self.family != "clip":
            # The mask stays an input of the graph, so that both families have one signature.
            features = features + 0 * mask[:, :1].to(features.dtype)
        return F.normalize(features, dim=-1)


def build_encoder(config: Mapping[str, Any], preprocessing: Preprocessing) -> HubEncoder:
    """The network of a saved configuration, with fresh weights."""
    values = dict(config["model"])
    model: Any = AutoModel
    family = values.pop("model_type")
    if family not in FAMILIES:
        raise CheckpointError(f"it is a {family} model; {', '.join(FAMILIES)} are supported")
    network = model.from_config(AutoConfig.for_model(family, **values), trust_remote_code=False)
    return HubEncoder(network, preprocessing)
