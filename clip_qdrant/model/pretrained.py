"""`hf:<name or folder>`: CLIP- and SigLIP-family models of transformers, behind the same two methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.model.hub import load_hub_config, load_hub_model, load_hub_tokenizer
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.weights import list_some
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["FAMILIES", "HubEncoder", "build_encoder", "load_pretrained"]

FAMILIES = ("clip", "siglip")
_SIGLIP = {"canonicalize": True}
_SIGLIP2 = {"lower_case": True}
# By family and by how the class of the tokenizer begins: what the model was trained with and its files do not do. The
# first that fits is taken.
_PREPARATIONS: Mapping[str, Mapping[str, Mapping[str, bool]]] = {
    "siglip": {"Siglip2Tokenizer": _SIGLIP2, "Gemma": _SIGLIP2, "SiglipTokenizer": _SIGLIP},
}
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

    @property
    def vocabulary(self) -> int:
        """How many token ids the text encoder knows."""
        return int(self.model.config.text_config.vocab_size)

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
    family = values.pop("model_type")
    if family not in FAMILIES:
        raise CheckpointError(f"it is a {family} model; {', '.join(FAMILIES)} are supported")
    network = model.from_config(AutoConfig.for_model(family, **values), trust_remote_code=False)
    return HubEncoder(network, preprocessing)


def load_pretrained(name: str) -> Checkpoint:
    """A CLIP- or SigLIP-family model by its hub name or folder.

    Raises CheckpointError when it cannot be read, is of another family, or has no tokenizer the `tokenizers`
    library can run.
    """
    config = load_hub_config(name, f"hf:{name}", families=FAMILIES)
    family = config.model_type
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
        preprocessing = _read_preprocessing(processor, int(config.vision_config.image_size))
        tokenizer, preparation = _read_tokenizer(name, family)
        tokenization = _make_tokenization(tokenizer, config, family, preparation)
    except CheckpointError:
        raise
    except Exception as error:  # its files may hold anything
        raise CheckpointError(f"cannot load hf:{name}: {first_line(error)}") from error
    model, missing = load_hub_model(name, f"hf:{name}", config)
    if missing:
        raise CheckpointError(f"the weights of hf:{name} are not whole: {list_some(sorted(missing))} missing")
    label = f"hf:{Path(name).name if Path(name).is_dir() else name}"
    encoder = HubEncoder(model.float(), preprocessing).eval()
    checkpoint = Checkpoint(encoder, preprocessing, tokenization, tokenizer, trained_on=(label,))
    probe_checkpoint(checkpoint, f"hf:{name}")
    return checkpoint


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


def _read_tokenizer(name: str, family: str) -> tuple[str, Mapping[str, bool]]:
    """The text of a tokenizer.json, and how texts are prepared before it."""
    preparation = _find_preparation(name, family)
    if preparation is not _SIGLIP:
        backend = getattr(load_hub_tokenizer(name, f"hf:{name}"), "backend_tokenizer", None)
        if backend is not None:
            return str(backend.to_str()), preparation
    # SigLIP's own tokenizer class runs on sentencepiece; the tokenizer.json beside it holds the same vocabulary.
    try:
        path = cached_file(name, "tokenizer.json")
    except OSError as error:
        raise CheckpointError(f"hf:{name} has no tokenizer.json: {error}") from error
    return Path(str(path)).read_text(encoding="utf-8"), preparation


def _find_preparation(name: str, family: str) -> Mapping[str, bool]:
    """What is done to texts that no file of the model says: SigLIP 2 models call themselves siglip, and use Gemma's."""
    declared = str(get_tokenizer_config(name).get("tokenizer_class") or "")
    if family == "siglip" and not declared:
        return _SIGLIP
    return next((how for start, how in _PREPARATIONS.get(family, {}).items() if declared.startswith(start)), {})


def _make_tokenization(tokenizer: str, config: Any, family: str, preparation: Mapping[str, bool]) -> Tokenization:
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
        **preparation,
    )
