"""The dual encoder: an image encoder and a text encoder, each followed by a head into one shared space.

Attribute names are those of the tutorial lineage (`image_encoder.model`, `text_encoder.model`, `image_projection`,
`text_projection`), so that its weights load without renaming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from clip_qdrant.errors import ConfigError
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = [
    "INITIAL_LOGIT_SCALE",
    "ConceptHead",
    "DualEncoder",
    "DualEncoderConfig",
    "ImageEncoder",
    "PixelNorm",
    "ProjectionHead",
    "ResidualHead",
    "TextEncoder",
]

Pooling = Literal["cls", "mean"]
INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP, Radford et al. 2021, section 2.5
MAX_LOGIT_SCALE = math.log(100.0)


@dataclass(frozen=True)
class DualEncoderConfig:
    """Everything needed to build the network without any download.

    `image` names a timm model, `text` is a transformers configuration, `pooling` says how token vectors become one.
    The heads are "projection" for both in the tutorial lineage; the others are explained at their classes.
    """

    image: str = "resnet50"
    text: Mapping[str, Any] = field(default_factory=lambda: {"model_type": "distilbert"})
    pooling: Pooling = "cls"
    dim: int = 256
    dropout: float = 0.1
    image_head: Literal["projection", "concept"] = "projection"
    text_head: Literal["projection", "residual"] = "projection"
    concepts: int = 1000
    hidden: int = 1024

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": dict(self.text)}


class PixelNorm(nn.Module):
    """uint8 (n, S, S, 3) pixels to normalised float (n, 3, S, S), on the device where the pixels are."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        shape = (1, 3, 1, 1)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(preprocessing.std).view(shape) * 255), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) * self.scale


class ImageEncoder(nn.Module):
    """Any timm model as a feature extractor: (n, 3, S, S) normalised pixels -> (n, features)."""

    def __init__(self, name: str = "resnet50", *, pretrained: bool = False) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
            raise ConfigError(f"timm has no image model {name!r}" + (f"; similar: {close}" if close else ""))
        self.model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
        width: Any = getattr(self.model, "head_hidden_size", None) or self.model.num_features
        self.features = int(width)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model(pixels)
        return features


class TextEncoder(nn.Module):
    """Any transformers text model: token ids and mask (n, length) -> (n, hidden), by CLS token or mean over tokens."""

    def __init__(self, config: Mapping[str, Any] | PretrainedConfig, *, pooling: Pooling = "cls") -> None:
        super().__init__()
        self.pooling = pooling
        if not isinstance(config, PretrainedConfig):
            values = dict(config)
            try:
                config = AutoConfig.for_model(values.pop("model_type"), **values)
            except (KeyError, ValueError) as error:
                raise ConfigError(f"not a text model that transformers knows: {error}") from error
        auto: Any = AutoModel
        self.model: Any = auto.from_config(config, trust_remote_code=False)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # BERT's pooler serves next-sentence prediction; its weights would be dead
        self.features = int(config.hidden_size)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class ProjectionHead(nn.Module):
    """(n, features) -> (n, dim): linear, then a residual GELU layer and layer norm, as in the tutorial lineage."""

    def __init__(self, features: int, dim: int = 256, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(features, dim)
        self.fc = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(features)
        out: Tensor = self.layer_norm(self.dropout(self.fc(F.gelu(projected))) + projected)
        return out


class ConceptHead(nn.Module):
    """(n, features) -> (n, dim): a mean of concept vectors weighted by a classifier, plus a learned correction.

    With the text vectors of class names as concepts an image starts where its probable names are, classes included
    that the training pairs never show (ConSE, Norouzi et al. 2014). The correction starts at zero.
    """

    def __init__(self, features: int, dim: int, *, concepts: int = 1000, hidden: int = 1024, dropout: float = 0.1):
        super().__init__()
        self.classifier = nn.Linear(features, concepts)
        self.concepts = nn.Parameter(torch.randn(concepts, dim) / math.sqrt(dim))
        self.expand = nn.Linear(features, hidden)
        self.dropout = nn.Dropout(dropout)
        self.correct = nn.Linear(hidden, dim)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, features: Tensor) -> Tensor:
        mean = F.normalize(self.classifier(features).softmax(-1) @ self.concepts, dim=-1)
        correction: Tensor = self.correct(self.dropout(F.gelu(self.expand(features))))
        return mean + correction


class ResidualHead(nn.Module):
    """(n, dim) -> (n, dim): the normalised input plus a correction that starts at zero."""

    def __init__(self, dim: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.correct = nn.Linear(dim, dim)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, features: Tensor) -> Tensor:
        unit = F.normalize(features, dim=-1)
        correction: Tensor = self.correct(self.dropout(F.gelu(self.expand(unit))))
        return unit + correction


class DualEncoder(nn.Module):
    """Images and texts to unit vectors of one space; `logit_scale` is the learned log of the inverse temperature."""

    def __init__(
        self, config: DualEncoderConfig, preprocessing: Preprocessing, *, pretrained_image: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.pixel_norm = PixelNorm(preprocessing)
        self.image_encoder = ImageEncoder(config.image, pretrained=pretrained_image)
        self.text_encoder = TextEncoder(config.text, pooling=config.pooling)
        self.image_projection = _image_head(config, self.image_encoder.features)
        self.text_projection = _text_head(config, self.text_encoder.features)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))

    @property
    def dim(self) -> int:
        return self.config.dim

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return int(self.text_encoder.model.get_input_embeddings().weight.shape[0])

    def config_dict(self) -> dict[str, Any]:
        """What builds the network anew."""
        return {"family": "dual_encoder", **self.config.to_dict()}

    def identity(self) -> dict[str, Any]:
        """What of it goes into the fingerprint."""
        return self.config_dict()

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) -> unit rows (n, dim)."""
        return F.normalize(self.image_projection(self.image_encoder(self.pixel_norm(pixels))), dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 ids and mask (n, length) -> unit rows (n, dim)."""
        return F.normalize(self.text_projection(self.text_encoder(ids, mask)), dim=-1)


def _image_head(config: DualEncoderConfig, features: int) -> nn.Module:
    if config.image_head == "projection":
        return ProjectionHead(features, config.dim, dropout=config.dropout)
    if config.image_head == "concept":
        return ConceptHead(features, config.dim, concepts=config.concepts, hidden=config.hidden, dropout=config.dropout)
    raise ConfigError(f"image_head is {config.image_head!r}: projection and concept are possible")


def _text_head(config: DualEncoderConfig, features: int) -> nn.Module:
    if config.text_head == "projection":
        return ProjectionHead(features, config.dim, dropout=config.dropout)
    if config.text_head != "residual":
        raise ConfigError(f"text_head is {config.text_head!r}: projection and residual are possible")
    if features != config.dim:
        raise ConfigError(f"a residual text head needs dim = {features}, the text encoder's width, not {config.dim}")
    return ResidualHead(config.dim, dropout=config.dropout)
