"""The fingerprint of a published model depends on what changes its vectors, and on nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from published import PUBLISHED, save_published, spread_weights

from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.published.encoder import HubEncoder, build_encoder
from clip_qdrant.model.published.families import FAMILIES
from clip_qdrant.model.published.load import load_published
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model.text_config import describe_text_config
from clip_qdrant.model_inputs.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
WORDS = 60


@cache
def small_encoder(name: str) -> HubEncoder:
    row = PUBLISHED[name]
    # One layer less than elsewhere, where that is possible: a test builds hundreds of them.
    text = {**row.text, "vocab_size": WORDS, "max_position_embeddings": 16, "num_hidden_layers": 1}
    for which in ("bos", "eos", "pad"):
        text[f"{which}_token_id"] = {"bos": 3, "eos": 4, "pad": 1}[which]
    config = transformers.AutoConfig.for_model(
        row.model_type or name, text_config=text, vision_config=row.image, **row.own
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    spread_weights(model)
    return HubEncoder(model, PREPROCESSING).eval()


def inputs(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    if name == "siglip2":
        pixels = torch.randint(0, 256, (3, 17, 3 * 8 * 8), generator=generator, dtype=torch.uint8)
        pixels[:, 0] = 0
        pixels[:, 0, 0], pixels[:, 0, 2] = torch.tensor([4, 2, 5]), torch.tensor([4, 7, 3])
    else:
        pixels = torch.randint(0, 256, (3, 32, 32, 3), generator=generator, dtype=torch.uint8)
    ids = torch.randint(6, WORDS, (3, 8), generator=generator)
    ids[:, 6:] = torch.tensor([[4, 4], [4, 1], [2, 4]])  # ends at several places, for encoders that look for the end
    ids[1, 2], ids[2, 3] = 1, 2
    mask = torch.ones_like(ids)
    mask[1, 7] = 0
    return pixels, ids, mask


def embed(encoder: HubEncoder, name: str) -> np.ndarray:
    pixels, ids, mask = inputs(name)
    with torch.inference_mode():
        return np.concatenate([encoder.encode_image(pixels), encoder.encode_text(ids, mask)])


def other_values(key: str, value: Any) -> list[Any]:
    """What else a value of a configuration may be."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, max(1, value // 2), value + 1]
    if isinstance(value, float):
        return [value * 10 + 0.01]
    if key.endswith("_act"):
        return ["relu"]
    return {"mean": ["max"]}.get(value, []) if isinstance(value, str) else []


def keys_of(config: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for part in ("", "text_config", "vision_config"):
        for key, value in (config["model"][part] if part else config["model"]).items():
            yield part, key, value


def change(config: dict[str, Any], part: str, key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    (changed["model"][part] if part else changed["model"])[key] = value
    return changed


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.filterwarnings("ignore")
def test_what_changes_vectors_changes_the_fingerprint_and_nothing_else_does(name: str) -> None:
    encoder = small_encoder(name)
    expected, weights, config = embed(encoder, name), encoder.state_dict(), encoder.config_dict()
    listed = {*encoder.row.text_values, *encoder.row.image_values}
    wrong, tried = [], 0
    for part, key, value in keys_of(config):
        for other in other_values(key, value):
            try:
                changed = build_encoder(change(config, part, key, other), PREPROCESSING).eval()
                changed.load_state_dict(weights)
                rows = embed(changed, name)
            except Exception:  # noqa: BLE001  # nothing that these weights fit, or that runs
                continue
            tried += 1
            differs = rows.shape != expected.shape or np.abs(rows - expected).max() > 1e-6
            noted = changed.identity() != encoder.identity()
            if differs != noted and not (noted and key in listed):
                wrong.append(f"{part}.{key}={other}: vectors differ: {differs}")
            break
    assert tried > 10
    assert wrong == []


@pytest.fixture(scope="module", params=["siglip", "metaclip_2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def config(folder: Path) -> Iterator[dict[str, Any]]:
    """The configuration of the folder, as it is before a test changes it."""
    text = (folder / "config.json").read_text()
    yield json.loads(text)
    (folder / "config.json").write_text(text)


# What versions of transformers wrote of the same model, or will write.
VINTAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "older": lambda part: [part.pop(key, None) for key in ("projection_size", "pad_token_id", "initializer_range")],
    "newer": lambda part: part.update(value_of_a_later_version=3, use_cache=True, chunk_size_feed_forward=0),
    "other words": lambda part: part.update(
        dtype="float32", torch_dtype="float16", _attn_implementation="eager", transformers_version="4.30.0"
    ),
}


def rewrite(config: dict[str, Any], vintage: str) -> None:
    for part in (config, config["text_config"], config["vision_config"]):
        VINTAGES[vintage](part)


@pytest.mark.parametrize("vintage", VINTAGES)
def test_the_fingerprint_does_not_depend_on_the_version_that_saved_a_model(
    vintage: str, folder: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    fingerprint = save_checkpoint(load_published(str(folder)), tmp_path / "model.pt")
    rewrite(config, vintage)
    (folder / "config.json").write_text(json.dumps(config))
    assert load_published(str(folder)).fingerprint() == fingerprint
    # The same of a file of ours that another version has written.
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    rewrite(content["config"]["model"], vintage)
    torch.save(content, tmp_path / "other.pt")
    assert load_checkpoint(tmp_path / "other.pt").fingerprint() == fingerprint


def test_another_activation_is_another_fingerprint(folder: Path, config: dict[str, Any]) -> None:
    fingerprint = load_published(str(folder)).fingerprint()
    config["vision_config"]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    assert load_published(str(folder)).fingerprint() != fingerprint


def test_a_new_dual_encoder_keeps_of_its_text_encoder_what_makes_vectors() -> None:
    small = {"hidden_size": 32, "num_attention_heads": 2, "vocab_size": 60, "hidden_act": "relu"}
    kept = describe_text_config(transformers.BertConfig(**small))
    assert kept == {**small, "model_type": "bert"}
    for vintage in VINTAGES:
        values = transformers.BertConfig(**small).to_dict()
        VINTAGES[vintage](values)
        assert describe_text_config(transformers.BertConfig(**values)) == kept
    # RoBERTa counts positions from its padding on.
    assert describe_text_config(transformers.RobertaConfig(pad_token_id=3))["pad_token_id"] == 3
