"""Image encoders taken apart into stages compute what they compute whole, and each parameter is where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig, ImageEncoder, TextEncoder
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant_training.network.stages import image_depth, image_stage, image_stages, text_depth, text_layer

# Small networks of every family that is taken apart, with the number of stages. The last ones are left whole, GhostNet
# although its parts have the names of EfficientNet's.
DEPTHS = {
    "test_efficientnet": 7,
    "test_efficientnet_gn": 7,
    "mobilenetv3_small_050": 8,
    "test_resnet": 6,
    "resnet10t": 6,
    "test_vit": 8,
    "test_vit2": 10,
    "test_vit3": 11,
    "test_convnext": 6,
    "test_convnext2": 6,
    "convnext_zepto_rms_ols": 6,
    "test_byobnet": 1,
    "test_nfnet": 1,
    "test_vit_relpos": 1,
    "ghostnet_050": 1,
}


@pytest.fixture(scope="module", params=DEPTHS)
def encoder(request: pytest.FixtureRequest) -> Iterator[ImageEncoder]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = ImageEncoder(request.param).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 1 and "bias" not in name:  # layer scales near zero would hide what is behind them
                parameter.fill_(1.0)
    yield made
    torch.set_num_threads(threads)


def pixels(encoder: ImageEncoder) -> Tensor:
    size = encoder.model.pretrained_cfg["input_size"][-1]
    size = size if hasattr(encoder.model, "patch_embed") else 64
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def outputs(encoder: ImageEncoder, maps: Tensor) -> list[Tensor]:
    found = []
    for stage in image_stages(encoder):
        maps = stage(maps)
        found.append(maps)
    return found


def test_stages_one_after_the_other_are_the_encoder(encoder: ImageEncoder) -> None:
    with torch.no_grad():
        torch.testing.assert_close(outputs(encoder, pixels(encoder))[-1], encoder(pixels(encoder)))


def test_families_that_are_known_have_a_stem_and_stages_and_others_are_one(request: Any, encoder: ImageEncoder) -> None:
    name = request.node.callspec.params["encoder"]
    assert image_depth(encoder) == len(image_stages(encoder)) == DEPTHS[name]


def test_each_parameter_is_used_by_its_stage_and_by_none_before(encoder: ImageEncoder) -> None:
    places: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        places.setdefault(image_stage(name, encoder), []).append(parameter)
    assert set(places) <= set(range(image_depth(encoder)))
    assert set(range(image_depth(encoder) - 1)) <= set(places), "only the last stage may be mere pooling"
    image = pixels(encoder)
    before = outputs(encoder, image)
    for stage, parameters in places.items():
        kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn_like(parameter))
        after = outputs(encoder, image)
        assert all(torch.equal(old, new) for old, new in zip(before[:stage], after[:stage], strict=True))
        assert not torch.equal(before[stage], after[stage])
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


def test_a_stage_gives_its_parameters_their_gradients_from_its_input_alone(encoder: ImageEncoder) -> None:
    *below, _ = [pixels(encoder), *outputs(encoder, pixels(encoder))]
    for number, (stage, maps) in enumerate(zip(image_stages(encoder), below, strict=True)):
        encoder.zero_grad()
        given = stage(maps)
        if not given.requires_grad:
            continue  # pooling
        given.square().sum().backward()
        named = dict(encoder.named_parameters())
        reached = {name for name, parameter in named.items() if parameter.grad is not None}
        assert {image_stage(name, encoder) for name in reached} == {number}


def test_a_subclass_with_a_forward_pass_of_its_own_is_left_whole() -> None:
    encoder = ImageEncoder("test_resnet")

    class Twice(type(encoder.model)):  # type: ignore[misc]  # a class that is known only now
        def forward_features(self, x: Tensor) -> Tensor:
            return super().forward_features(x) * 2

    encoder.model.__class__ = Twice
    assert image_depth(encoder) == 1
    assert {image_stage(name, encoder) for name, _ in encoder.named_parameters()} == {0}


def with_text(**config: Any) -> DualEncoder:
    return DualEncoder(DualEncoderConfig(image="test_resnet", text=config, dim=16), Preprocessing(image_size=32))


TEXTS = {
    "bert": {
        "model_type": "bert",
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 20,
        "dim": 16,
        "n_layers": 3,
        "n_heads": 2,
        "hidden_dim": 16,
        "max_position_embeddings": 16,
    },
    "clip text": {
        "model_type": "clip_text_model",
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "eos_token_id": 3,
    },
}


@pytest.mark.parametrize("kind", TEXTS)
def test_each_parameter_of_a_text_encoder_is_used_by_its_layer_and_by_none_before(kind: str) -> None:
    torch.manual_seed(0)
    model = with_text(**TEXTS[kind])
    encoder: TextEncoder = model.text_encoder.eval()
    depth = text_depth(model)
    assert depth == 4, "embeddings and three layers"
    places: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        places.setdefault(text_layer(name, depth), []).append(parameter)
    assert set(places) == set(range(depth))
    ids, mask = torch.randint(4, 20, (2, 6), generator=torch.Generator().manual_seed(0)), torch.ones(2, 6).long()

    @torch.no_grad()
    def hidden() -> list[Tensor]:
        output = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return [*output.hidden_states[:-1], output.last_hidden_state]

    before = hidden()
    for layer, parameters in places.items():
        kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn_like(parameter))
        after = hidden()
        assert all(torch.equal(old, new) for old, new in zip(before[:layer], after[:layer], strict=True))
        assert not torch.equal(before[layer], after[layer])
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.embeddings.word_embeddings.weight", 0),
        ("model.embeddings.LayerNorm.weight", 0),
        ("model.encoder.layer.0.attention.self.query.weight", 1),
        ("model.encoder.layer.11.output.LayerNorm.bias", 12),
        ("model.transformer.layer.5.ffn.lin1.weight", 6),
        ("model.text_model.encoder.layers.2.mlp.fc1.weight", 3),
        ("model.text_model.final_layer_norm.weight", 12),
        ("model.encoder.block.3.layer.0.SelfAttention.q.weight", 4),
        ("model.h.4.ln_1.weight", 5),
        ("model.ln_f.weight", 12),
        ("model.layers.7.attn_norm.weight", 8),
        ("model.final_norm.weight", 12),
        ("model.encoder.relative_attention_bias.weight", 0),
    ],
)
def test_the_layer_is_read_from_the_names_that_transformers_gives(name: str, layer: int) -> None:
    assert text_layer(name, 13) == layer
