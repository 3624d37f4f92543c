"""A new dual encoder from a published image encoder and a published text encoder, to be trained."""

from __future__ import annotations

from dataclasses import replace

import timm
import torch

from clip_qdrant.errors import CheckpointError, ConfigError, first_line
from clip_qdrant.hub.snapshots import fetch_descriptions, fetch_weights
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig, Pooling
from clip_qdrant.model.published.hub import load_hub_config, load_hub_model, load_hub_tokenizer
from clip_qdrant.model.text_config import describe_text_config
from clip_qdrant.model.weights import list_some
from clip_qdrant.model_inputs.preprocessing import Interpolation, Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization

__all__ = ["new_checkpoint"]

_MAX_TOKENS = 200  # the tutorial lineage's


def new_checkpoint(
    image: str = "resnet50",
    text: str = "distilbert-base-uncased",
    *,
    dim: int = 256,
    pooling: Pooling = "cls",
    pretrained: bool = True,
    image_size: int | None = None,
    interpolation: Interpolation | None = None,
    seed: int = 0,
) -> Checkpoint:
    """An untrained checkpoint: any timm image model, any encoder-only transformers text model, and fresh heads.

    `text` is a hub name, with or without a revision, or a folder, whose weights are taken; `pretrained=False` leaves
    those of the image encoder random. `image_size` and `interpolation` are by default those that timm
    says the image model was trained with.

    Raises ConfigError for an unknown image model, CheckpointError for what cannot be downloaded or read.
    """
    label = f"the text encoder {text!r}"
    try:
        snapshot = fetch_descriptions(text)
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {label}: {error}") from error
    folder = str(snapshot.folder)
    config = load_hub_config(folder, label)
    tokenizer = load_hub_tokenizer(folder, label)
    fetch_weights(snapshot)
    words, missing, _ = load_hub_model(folder, label, config)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"the tokenizer of {text!r} does not run on the tokenizers library; choose another model")
    if not hasattr(config, "hidden_size"):
        raise CheckpointError(f"{text!r} is a {config.model_type} model, not a text encoder like DistilBERT")
    network = DualEncoderConfig(image=image, text=describe_text_config(config), pooling=pooling, dim=dim)
    preprocessing = _read_preprocessing(image)
    preprocessing = replace(
        preprocessing,
        image_size=image_size or preprocessing.image_size,
        interpolation=interpolation or preprocessing.interpolation,
    )
    try:
        with torch.random.fork_rng([]):  # the caller's random numbers go on as if nothing had been seeded
            torch.manual_seed(seed)
            model = DualEncoder(network, preprocessing, pretrained_image=pretrained)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot load the weights of timm's {image!r}: {first_line(error)}; "
            "set pretrained to false to start without them"
        ) from error
    published = words.state_dict()
    encoder = model.text_encoder.model
    if lacking := sorted(missing & encoder.state_dict().keys()):
        raise CheckpointError(f"the weights of {text!r} are not whole: {list_some(lacking)} missing")
    encoder.load_state_dict({name: published[name].float() for name in encoder.state_dict()})
    model.eval()
    length = min(_MAX_TOKENS, int(getattr(config, "max_position_embeddings", _MAX_TOKENS)))
    tokenization = Tokenization(
        max_length=length, pad_id=int(tokenizer.pad_token_id or 0), pad_token=str(tokenizer.pad_token or "[PAD]")
    )
    made = Checkpoint(
        model, preprocessing, tokenization, str(backend.to_str()), trained_on=(f"timm:{image}", snapshot.label)
    )
    try:
        ids, mask = TextTokenizer(made.tokenizer, tokenization)(["a photo of " + "a dog " * length])
        with torch.inference_mode():
            model.encode_text(torch.from_numpy(ids), torch.from_numpy(mask))
    except (ValueError, RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{text!r} does not work as a text encoder here: {first_line(error)}") from error
    if image_size:
        _check_size(model, image, image_size)
    return made


def _check_size(model: DualEncoder, image: str, size: int) -> None:
    try:
        with torch.inference_mode():
            model.encode_image(torch.zeros((1, size, size, 3), dtype=torch.uint8))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"timm's {image!r} does not take images of {size} px: {first_line(error)}") from error


def _read_preprocessing(image: str) -> Preprocessing:
    """What timm says the image model was trained with; the defaults for a name it does not know."""
    pretrained = timm.get_pretrained_cfg(image, allow_unregistered=True)
    if pretrained is None:
        return Preprocessing()
    mean, std = (tuple(float(value) for value in values) for values in (pretrained.mean, pretrained.std))
    return Preprocessing(
        image_size=int(pretrained.input_size[-1]),
        interpolation="bilinear" if pretrained.interpolation == "bilinear" else "bicubic",
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )
