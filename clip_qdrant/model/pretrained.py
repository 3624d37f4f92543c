"""`hf:<name or folder>`: CLIP- and SigLIP-family models of transformers, behind the same two methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["FAMILIES", "HubEncoder", "build_encoder", "load_pretrained"]

FAMILIES = ("clip", "siglip")
_BILINEAR = 2  # PIL's numbers, as preprocessor_config.json writes them


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

    def config_dict(self) -> dict[str, Any]:
        """The transformers configuration, without what differs from version to version."""
        values = json.loads(self.model.config.to_json_string(use_diff=True))
        values.pop("transformers_version", None)
        return {"model": values}

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
    return HubEncoder(model.from_config(AutoConfig.for_model(values.pop("model_type"), **values)), preprocessing)


def load_pretrained(name: str) -> Checkpoint:
    """A CLIP- or SigLIP-family model by its hub name or folder.

    Raises CheckpointError when it cannot be read, is of another family, or has no tokenizer the `tokenizers`
    library can run.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        family = config.model_type
        if family not in FAMILIES:
            raise CheckpointError(f"hf:{name} is a {family} model; {', '.join(FAMILIES)} are supported")
        model = AutoModel.from_pretrained(name)
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot load hf:{name}: {first_line(error)}") from error
    preprocessing = _read_preprocessing(processor, int(config.vision_config.image_size))
    tokenizer, canonicalize = _read_tokenizer(name, family)
    tokenization = _make_tokenization(tokenizer, config, family, canonicalize)
    label = f"hf:{Path(name).name if Path(name).is_dir() else name}"
    encoder = HubEncoder(model.float(), preprocessing).eval()
    return Checkpoint(encoder, preprocessing, tokenization, tokenizer, trained_on=(label,))


def _read_preprocessing(processor: Mapping[str, Any], image_size: int) -> Preprocessing:
    """What preprocessor_config.json asks for, as far as it concerns square inputs."""

    def three(key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        values = processor.get(key) or default
        return (float(values[0]), float(values[1]), float(values[2]))

    crop = bool(processor.get("do_center_crop", "crop_size" in processor))
    return Preprocessing(
        image_size=image_size,
        resize="crop" if crop else "squash",
        interpolation="bilinear" if processor.get("resample") == _BILINEAR else "bicubic",
        mean=three("image_mean", (0.5, 0.5, 0.5)),
        std=three("image_std", (0.5, 0.5, 0.5)),
    )


def _read_tokenizer(name: str, family: str) -> tuple[str, bool]:
    """The text of a tokenizer.json, and whether texts must be canonicalised before it."""
    if not _is_siglip_tokenizer(name, family):
        try:
            backend = getattr(AutoTokenizer.from_pretrained(name), "backend_tokenizer", None)
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(f"cannot load the tokenizer of hf:{name}: {error}") from error
        if backend is not None:
            return str(backend.to_str()), False
    # SigLIP's own tokenizer class runs on sentencepiece; the tokenizer.json beside it holds the same vocabulary.
    try:
        path = cached_file(name, "tokenizer.json")
    except OSError as error:
        raise CheckpointError(f"hf:{name} has no tokenizer.json: {error}") from error
    return Path(str(path)).read_text(encoding="utf-8"), True


def _is_siglip_tokenizer(name: str, family: str) -> bool:
    """Whether texts go through SigLIP's own tokenizer: SigLIP 2 models call themselves siglip and use Gemma's."""
    declared = get_tokenizer_config(name).get("tokenizer_class") or ""
    return family == "siglip" and (not declared or str(declared).startswith("SiglipTokenizer"))


def _make_tokenization(tokenizer: str, config: Any, family: str, canonicalize: bool) -> Tokenization:
    vocabulary = {entry["content"]: entry["id"] for entry in json.loads(tokenizer).get("added_tokens", [])}
    pad_id = config.text_config.pad_token_id
    names = {index: token for token, index in vocabulary.items()}
    if family == "clip":
        # CLIP pads with its end token; the position of the first one is what it pools.
        pad_id = vocabulary.get("<|endoftext|>", pad_id)
    if pad_id is None:
        pad_id = 0
    return Tokenization(
        max_length=int(config.text_config.max_position_embeddings),
        padding="longest" if family == "clip" else "max_length",
        pad_id=int(pad_id),
        pad_token=names.get(pad_id, "<pad>"),
        canonicalize=canonicalize,
    )
