"""An image-text model of transformers behind `encode_image` and `encode_text`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.model.published.families import FAMILIES, explain_family
from clip_qdrant.model.published.naflex import PatchInputs, accept_any_shape
from clip_qdrant.model.published.token_warnings import pass_over_token_warnings
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["HubEncoder", "build_encoder"]


class HubEncoder(nn.Module):
    """A transformers image-text model behind `encode_image` and `encode_text`. Raises CheckpointError.

    Whatever differs between families is in the row of its family.
    """

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        config = model.config
        if config.model_type not in FAMILIES:
            raise CheckpointError(f"it {explain_family(config.model_type)}")
        self.row = FAMILIES[config.model_type]
        if self.row.pooling and not getattr(config.vision_config, self.row.pooling, True):
            raise CheckpointError(f"its {self.row.pooling} is false: it makes no one vector of an image")
        self.pixel_norm = PatchInputs(preprocessing) if self.row.patches else PixelNorm(preprocessing)
        if self.row.patches:
            accept_any_shape(model)
        self.model: Any = model

    @property
    def dim(self) -> int:
        return int(reduce(getattr, self.row.dim, self.model.config))

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return int(self.model.config.text_config.vocab_size)

    @pass_over_token_warnings()
    def config_dict(self) -> dict[str, Any]:
        """The transformers configuration."""
        values = json.loads(self.model.config.to_json_string(use_diff=True))
        values.pop("transformers_version", None)
        return {"family": "transformers", "model": values}

    def identity(self) -> dict[str, Any]:
        """What of the configuration goes into the fingerprint: the values that its family's row names."""
        config = self.model.config
        return {
            "family": "transformers",
            "model": self.row.name,
            "text": {name: _canonical(getattr(config.text_config, name)) for name in self.row.text_values},
            "image": {name: _canonical(getattr(config.vision_config, name)) for name in self.row.image_values},
        }

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3), or (n, 1 + patches, values of a patch) of NaFlex -> unit rows (n, dim)."""
        inputs = self.pixel_norm(pixels)
        arguments = inputs if self.row.patches else {"pixel_values": inputs}
        return F.normalize(self.model.get_image_features(**arguments).pooler_output, dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 ids and mask (n, length) -> unit rows (n, dim)."""
        if self.row.takes_mask:
            features = self.model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        else:
            features = self.model.get_text_features(input_ids=ids).pooler_output
            # The mask stays an input of the graph, so that all families have one signature.
            features = features + 0 * mask[:, :1].to(features.dtype)
        return F.normalize(features, dim=-1)


@pass_over_token_warnings()
def build_encoder(config: Mapping[str, Any], preprocessing: Preprocessing) -> HubEncoder:
    """The network of a saved configuration, with fresh weights."""
    values = dict(config["model"])
    model: Any = AutoModel
    family = values.pop("model_type")
    if family not in FAMILIES:
        raise CheckpointError(f"it {explain_family(family)}")
    network = model.from_config(AutoConfig.for_model(family, **values), trust_remote_code=False)
    return HubEncoder(network, preprocessing)


def _canonical(value: Any) -> Any:
    """One way to write a value: files say 1e-05 or 0.00001, 0 or 0.0."""
    if isinstance(value, (list, tuple)):
        return [_canonical(each) for each in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
