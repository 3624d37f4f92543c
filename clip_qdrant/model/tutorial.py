"""Bare state dicts of the tutorial lineage, both ways: ResNet, DistilBERT and two projection heads, without a config.

    save_state_dict(load_checkpoint("mine.pt"), "best.pt")     # 430 keys for a ResNet50; torch.load reads it anywhere
    load_checkpoint("best.pt")                                 # and back

The lineage is "Simple Implementation of OpenAI CLIP model: A Tutorial" (Shariatnia 2021) and what was made of it.
Such a file holds weights and nothing else. What else an embedder must know, its readers take from the tutorial: images
squashed to 224 px, ImageNet's mean and deviation, bert-base-uncased's tokenizer.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from clip_qdrant.content import bundled_checkpoint
from clip_qdrant.errors import CheckpointError
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.containers import unwrap_weights
from clip_qdrant.model.dual_encoder import INITIAL_LOGIT_SCALE, DualEncoder, DualEncoderConfig
from clip_qdrant.model.plan import build_plan
from clip_qdrant.model.weights import compare_weights, fill_network, list_some, read_content, write_atomically
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization

__all__ = ["find_image_architecture", "from_state_dict", "read_state_dict", "save_state_dict", "to_state_dict"]

logger = logging.getLogger(__name__)

_MAX_LENGTH = 200
_PREPROCESSING = Preprocessing(resize="squash", interpolation="opencv_bilinear")
# Of timm: by the blocks of each stage, and whether these have three convolutions.
_RESNETS: Mapping[tuple[tuple[int, ...], bool], str] = {
    ((3, 4, 6, 3), True): "resnet50",
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
    ((2, 2, 2, 2), True): "resnet26",
    ((1, 1, 1, 1), True): "resnet14t",
    ((1, 1, 1, 1), False): "resnet10t",
}
_KNOWN = "image_projection.projection.weight"
# Weights do not show these, so a reader takes those of every released DistilBERT.
_UNSEEN = ("n_heads", "activation")
_PROBE = "A photo of Zoë's dog: red, 3.5 m, 猫, don't stop-over! "


def save_state_dict(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write `to_state_dict(checkpoint)` to one file, atomically. Raises CheckpointError, DiskFull."""
    weights, path = to_state_dict(checkpoint), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, weights)
    except (OSError, RuntimeError) as error:
        raise_if_full(error, path.parent)
        raise CheckpointError(f"cannot write the state dict {path}: {error}") from error


def to_state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights under the lineage's names: 430 of them for ResNet50 and DistilBERT. The temperature is left out.

    Raises CheckpointError for a network of another kind, and for one that a reader would run in another way than it
    was trained: the file does not say how big images are, or which tokenizer goes with it.
    """
    model = checkpoint.model
    _check_kind(model)
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if n != "logit_scale"}
    read = from_state_dict(weights, "a state dict of this checkpoint")
    differences = [
        *_list_differences(_PREPROCESSING.to_dict(), checkpoint.preprocessing.to_dict()),
        *_list_differences(read.tokenization.to_dict(), checkpoint.tokenization.to_dict()),
        *_list_differences(
            {"image": read.model.config.image, **{name: _text_option(read, name) for name in _UNSEEN}},
            {
                "image": model.config.image.partition(".")[0],
                **{name: _text_option(checkpoint, name) for name in _UNSEEN},
            },
        ),
    ]
    if not _have_same_tokens(read, checkpoint):
        differences.append("another tokenizer than bert-base-uncased's")
    if differences:
        raise CheckpointError(
            f"a state dict cannot say that this checkpoint has {'; '.join(differences)}: its readers would embed in "
            "another way than it was trained; save_checkpoint keeps it"
        )
    return weights


def read_state_dict(content: Mapping[str, Any], path: str | Path) -> Checkpoint:
    """`from_state_dict` of what is in a file, telling the log what the file does not say. Raises CheckpointError."""
    checkpoint = from_state_dict(content, path)
    pixels = checkpoint.preprocessing
    _warn_once(
        f"{path} has weights and nothing else. Assumed for it, as in the tutorial: images squashed to "
        f"{pixels.image_size} px ({pixels.interpolation}), mean and deviation of ImageNet, the tokenizer of "
        f"bert-base-uncased, texts of up to {checkpoint.tokenization.max_length} tokens, 64 dimensions to an attention "
        "head. What clip-qdrant export writes of it (in Python ClipEmbedder.save) says all that itself"
    )
    return checkpoint


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def from_state_dict(content: Mapping[str, Any], path: str | Path) -> Checkpoint:
    """ResNet + DistilBERT + two heads: everything but the number of attention heads follows from the shapes.

    `path` is named in the CheckpointError that says what is missing, foreign or of another shape.
    """
    weights = _unwrap(content, path)
    needed = {
        "image": _KNOWN,
        "text": "text_projection.projection.weight",
        "words": "text_encoder.model.embeddings.word_embeddings.weight",
        "positions": "text_encoder.model.embeddings.position_embeddings.weight",
        "hidden": "text_encoder.model.transformer.layer.0.ffn.lin1.weight",
    }
    missing = [name for name in needed.values() if not isinstance(weights.get(name), Tensor)]
    if missing:
        held = list_some([str(name) for name in weights], 3) or "nothing"
        raise CheckpointError(
            f"{path} is neither a clip_qdrant checkpoint nor a state dict of image_encoder, text_encoder and their "
            f"projections: {list_some(missing)} missing; it holds {held}"
        )
    shape = {key: tuple(weights[name].shape) for key, name in needed.items()}
    if any(len(size) != 2 for size in shape.values()):
        raise CheckpointError(f"{path} has weights of the wrong rank: {shape}")
    layers = {int(m[1]) for n in weights if (m := re.match(r"text_encoder\.model\.transformer\.layer\.(\d+)\.", n))}
    width = shape["words"][1]
    text = {
        "model_type": "distilbert",
        "vocab_size": shape["words"][0],
        "max_position_embeddings": shape["positions"][0],
        "dim": width,
        "hidden_dim": shape["hidden"][0],
        "n_layers": len(layers),
        "n_heads": max(1, width // 64),  # 64 dimensions a head, as in every released DistilBERT
    }
    config = DualEncoderConfig(
        image=find_image_architecture(weights, path), text=text, pooling="cls", dim=shape["image"][0]
    )
    tokenizer = _read_bundled_tokenizer()
    _check_vocabulary(tokenizer, shape["words"][0], path)
    weights = {"logit_scale": torch.tensor(INITIAL_LOGIT_SCALE), **weights}  # the lineage keeps no temperature
    compare_weights(build_plan(lambda: DualEncoder(config, _PREPROCESSING), len(weights)), weights, path)
    model = DualEncoder(config, _PREPROCESSING).eval()
    fill_network(model, weights)
    length = min(_MAX_LENGTH, shape["positions"][0])
    return Checkpoint(model, _PREPROCESSING, Tokenization(max_length=length), tokenizer)


def _unwrap(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The weights under the lineage's names, without what embedding has no use for."""
    weights, left_out = unwrap_weights(content, _KNOWN)
    classes, features = (weights.get(name) for name in ("image_encoder.model.fc.weight", _KNOWN))
    if isinstance(classes, Tensor) and isinstance(features, Tensor) and classes.shape[:1] != features.shape[1:]:
        # ImageNet's classes, kept by who made the ResNet without num_classes=0. Where the projection does take them,
        # the network is another one, which comparing tells.
        left_out += [name for name in weights if name.startswith("image_encoder.model.fc.")]
    left_out += [name for name in ("temperature",) if name in weights]
    if left_out:
        logger.info("%s: embedding has no use for %s", path, list_some(left_out))
    scale = weights.get("logit_scale")
    if isinstance(scale, Tensor) and scale.numel() == 1:
        weights["logit_scale"] = scale.reshape(())
    unused = {*left_out, "text_encoder.model.embeddings.position_ids"}  # a buffer that older transformers saved
    return {name: value for name, value in weights.items() if name not in unused}


def find_image_architecture(weights: Mapping[str, Any], path: str | Path) -> str:
    """The name in timm of the ResNet that has these weights. Raises CheckpointError, naming what does not fit."""
    prefix = "image_encoder.model."
    shapes = {
        name.removeprefix(prefix): tuple(tensor.shape) if isinstance(tensor, Tensor) else ()
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    blocks = tuple(len({key.split(".")[1] for key in shapes if key.startswith(f"layer{i}.")}) for i in range(1, 5))
    name = _RESNETS.get((blocks, any(".conv3." in key for key in shapes)))
    if name is None:
        raise CheckpointError(f"the image encoder in {path} is none of {', '.join(_RESNETS.values())}")
    expected = _list_resnet_shapes(name)
    wrong = [key for key, shape in expected.items() if shapes.get(key) != shape]
    wrong += [key for key in shapes if key not in expected]
    if wrong:
        misfits = list_some([prefix + key for key in wrong])
        raise CheckpointError(f"the image encoder in {path} is like timm's {name}, but for {misfits}")
    return name


@cache
def _list_resnet_shapes(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0, global_pool="avg")
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@cache
def _read_bundled_tokenizer() -> str:
    """bert-base-uncased's WordPiece: the lineage's tokenizer is also the one that the bundled checkpoint carries."""
    return str(read_content(bundled_checkpoint())["tokenizer"])


def _check_vocabulary(tokenizer: str, rows: int, path: str | Path) -> None:
    words = len(json.loads(tokenizer)["model"]["vocab"])
    if rows != words:
        raise CheckpointError(
            f"the text encoder in {path} knows {rows} tokens, bert-base-uncased has {words}: "
            "it was trained with another tokenizer; load it from a checkpoint that carries it"
        )


def _check_kind(model: Any) -> None:
    """Raises CheckpointError unless it is a ResNet and a DistilBERT with projection heads."""
    way_out = "only ResNet, DistilBERT and projection heads have a state dict of the tutorial lineage; save_checkpoint"
    if not isinstance(model, DualEncoder):
        raise CheckpointError(f"the network is a {type(model).__name__}: {way_out} keeps it")
    config, kind = model.config, model.text_encoder.model.config.model_type
    found = [
        *([] if config.image.partition(".")[0] in _RESNETS.values() else [f"the image encoder {config.image!r}"]),
        *([] if kind == "distilbert" else [f"a text encoder of the kind {kind!r}"]),
        *([] if config.pooling == "cls" else [f"pooling={config.pooling!r}, not 'cls'"]),
        *([] if config.image_head == "projection" else [f"the image head {config.image_head!r}"]),
        *([] if config.text_head == "projection" else [f"the text head {config.text_head!r}"]),
    ]
    if found:
        raise CheckpointError(f"the network has {', '.join(found)}: {way_out} keeps any")


def _list_differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [f"{name} {found[name]!r}, not {value!r}" for name, value in expected.items() if found[name] != value]


def _text_option(checkpoint: Checkpoint, name: str) -> Any:
    return getattr(checkpoint.model.text_encoder.model.config, name)


def _have_same_tokens(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether both know the same words, and split and clean a text full of oddities alike."""
    words = [json.loads(each.tokenizer)["model"].get("vocab") for each in (one, other)]
    ids = [TextTokenizer(each.tokenizer, each.tokenization)([_PROBE])[0].tolist() for each in (one, other)]
    return bool(words[0] == words[1] and ids[0] == ids[1])
