"""Models of sentence-transformers as checkpoints, and pairs of an image model with a text model of the same space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError, ClipQdrantError, first_line
from clip_qdrant.hub.files import find_weights, list_files
from clip_qdrant.hub.snapshots import fetch_descriptions, fetch_weights
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.probe import probe_checkpoint
from clip_qdrant.model.published.hub import load_hub_config, load_hub_model, load_hub_tokenizer
from clip_qdrant.model.published.json_files import read_values
from clip_qdrant.model.published.pairs.modules import Module, has_modules, read_modules
from clip_qdrant.model.published.pairs.network import BuildNetwork, PairEncoder, keep_weights, list_image_weights
from clip_qdrant.model.published.pairs.text_encoder import ACTIVATIONS, POOLS, SentenceEncoder
from clip_qdrant.model.published.tensors import read_tensors
from clip_qdrant.model.published.text_models import TEXT_MODELS, write_text_config
from clip_qdrant.model.weights import compare_weights, fill_network, list_some
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["find_image_text_folder", "load_pair"]

_NETWORKS = ("Transformer", "CLIPModel")
_SENTENCE_MODELS = tuple(name for name in TEXT_MODELS if name not in ("m2m_100", "mt5"))  # these have two halves
_POOLS_BEFORE = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_CONFIGS = ("sentence_bert_config.json", "sentence_distilbert_config.json", "sentence_xlm-roberta_config.json")


def find_image_text_folder(folder: Path, label: str, families: tuple[str, ...]) -> Path:
    """The folder of the image-text model of transformers that a model of sentence-transformers is.

    `families` are its possible kinds. Raises CheckpointError for one that does more, or is a model of texts alone.
    """
    modules = read_modules(folder, label)
    first = modules[0]
    kind = read_values(first.folder / "config.json", label).get("model_type")
    if first.kind not in _NETWORKS or kind not in families:
        if first.kind in _NETWORKS and kind in TEXT_MODELS:
            raise CheckpointError(
                f"{label} is a model of texts alone: name it after the image model of the same space, "
                f"hf:IMAGE_MODEL+{label}, as in hf:sentence-transformers/clip-ViT-B-32+{label}"
            )
        raise CheckpointError(
            f"{label} is a model of sentence-transformers that begins with a {first.kind} ({kind}): not supported"
        )
    if rest := [module.kind for module in modules[1:] if module.kind != "Normalize"]:
        raise CheckpointError(f"{label} has the module {rest[0]} after its {kind} model, which is not supported")
    return first.folder


def load_pair(image: Checkpoint, name: str, build: BuildNetwork) -> Checkpoint:
    """The images of one checkpoint, whose network is used up, and the texts of hf:`name`. Raises CheckpointError."""
    label = f"hf:{name}"
    snapshot = fetch_descriptions(name)
    if not has_modules(snapshot.folder):
        raise CheckpointError(f"{label} is no text model of sentence-transformers: it has no modules.json")
    try:
        config, tokenizer, tokenization = _read_text_model(snapshot.folder, label)
        fetch_weights(snapshot)
        text = _load_text_encoder(snapshot.folder, label, config)
    except ClipQdrantError:
        raise
    except Exception as error:  # its files may hold anything
        raise CheckpointError(f"cannot load {label}: {first_line(error)}") from error
    if image.model.dim != text.dim:
        raise CheckpointError(
            f"{label} gives vectors of {text.dim} numbers, and the image model before it vectors of "
            f"{image.model.dim}: a pair must be of one space"
        )
    keep_weights(image.model, list_image_weights(image.model, image.preprocessing, build))
    model = PairEncoder(image.model, text).eval()
    trained_on = (*image.trained_on, snapshot.label)
    checkpoint = Checkpoint(model, image.preprocessing, tokenization, tokenizer, trained_on=trained_on)
    probe_checkpoint(checkpoint, label)
    return checkpoint


def _read_text_model(folder: Path, label: str) -> tuple[dict[str, Any], str, Tokenization]:
    """The configuration of a SentenceEncoder, the text of a tokenizer.json, and how texts are cut and padded."""
    first, *others = read_modules(folder, label)
    if first.kind != "Transformer":
        raise CheckpointError(f"{label} begins with the module {first.kind}, which is not supported")
    prompts = read_values(folder / "config_sentence_transformers.json", label)
    if prompts.get("default_prompt_name"):
        raise CheckpointError(
            f"{label} writes the prompt {prompts['default_prompt_name']!r} before texts: not supported"
        )
    config = load_hub_config(str(first.folder), label, families=_SENTENCE_MODELS)
    values: dict[str, Any] = {"model": write_text_config(config), "pools": [], "layers": []}
    for module in others:
        _add_module(values, module, label)
    tokenizer, tokenization = _read_tokenizer(first.folder, label, config)
    return values, tokenizer, tokenization


def _add_module(values: dict[str, Any], module: Module, label: str) -> None:
    said = read_values(module.folder / "config.json", label)
    if module.kind == "Pooling" and not values["pools"]:
        pools = said.get("pooling_mode") or [pool for old, pool in _POOLS_BEFORE.items() if said.get(old)]
        values["pools"] = [pools] if isinstance(pools, str) else list(pools) or ["mean"]
        if any(pool not in POOLS for pool in values["pools"]):
            raise CheckpointError(f"{label} pools by {list_some(values['pools'])}; {', '.join(POOLS)} are supported")
    elif module.kind == "Dense" and values["pools"]:
        activation = str(said.get("activation_function", "torch.nn.modules.activation.Tanh"))
        own = {said.get(name) or "sentence_embedding" for name in ("module_input_name", "module_output_name")}
        if not activation.startswith("torch.nn.") or activation.rpartition(".")[2] not in ACTIVATIONS or len(own) > 1:
            raise CheckpointError(
                f"{label} has a Dense module with {activation} of {list_some(sorted(own))}: not supported"
            )
        values["layers"].append(
            {
                "kind": "dense",
                "inputs": int(said["in_features"]),
                "outputs": int(said["out_features"]),
                "bias": bool(said.get("bias", True)),
                "activation": activation.rpartition(".")[2],
                "residual": bool(said.get("use_residual", False)),
            }
        )
    elif module.kind == "Normalize" and values["pools"]:
        values["layers"].append({"kind": "normalize"})
    elif module.kind != "Dropout":  # that of training
        raise CheckpointError(f"{label} has the module {module.kind}, which is not supported")


def _read_tokenizer(folder: Path, label: str, config: Any) -> tuple[str, Tokenization]:
    tokenizer = load_hub_tokenizer(str(folder), label)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.pad_token_id is None or tokenizer.padding_side != "right":
        raise CheckpointError(f"{label} has a tokenizer that has no padding, or pads at the left")
    said: dict[str, Any] = next(filter(None, (read_values(folder / name, label) for name in _CONFIGS)), {})
    positions = int(config.max_position_embeddings)
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):  # they count from the one after padding
        positions -= int(config.pad_token_id) + 1
    length = said.get("max_seq_length") or min(int(tokenizer.model_max_length), positions)
    backend.no_truncation()
    backend.no_padding()
    tokenization = Tokenization(
        max_length=min(int(length), positions),
        pad_id=int(tokenizer.pad_token_id),
        pad_token=str(tokenizer.pad_token),
        lower_case=bool(said.get("do_lower_case")),
    )
    return str(backend.to_str()), tokenization


def _load_text_encoder(folder: Path, label: str, config: dict[str, Any]) -> SentenceEncoder:
    first, *others = read_modules(folder, label)
    described = load_hub_config(str(first.folder), label, families=_SENTENCE_MODELS)
    model, missing, _ = load_hub_model(str(first.folder), label, described)
    if lacking := sorted(name for name in missing if not name.startswith("pooler.")):
        raise CheckpointError(f"the weights of {label} are not whole: {list_some(lacking)} missing")
    encoder = SentenceEncoder(config)
    fill_network(encoder.model, {n: t for n, t in model.state_dict().items() if not n.startswith("pooler.")})
    layers = [module for module in others if module.kind in ("Dense", "Normalize")]
    for module, layer in zip(layers, encoder.layers, strict=True):
        if module.kind == "Dense":
            files = find_weights(list_files(module.folder), module.folder)
            if not files:
                raise CheckpointError(f"{label} has no weights in its folder {module.folder.name}")
            file = module.folder / files[0]
            weights = read_tensors(file)
            compare_weights(layer, weights, file)
            fill_network(layer, weights)
    return encoder.eval()
