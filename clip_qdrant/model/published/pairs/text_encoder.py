"""The text encoder that a model of sentence-transformers is: a transformer, pooling, and layers behind that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.text_models import identify_text_config, make_text_config

__all__ = ["ACTIVATIONS", "POOLS", "SentenceEncoder"]

POOLS = ("cls", "max", "mean", "mean_sqrt_len_tokens")
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
}


class SentenceEncoder(nn.Module):
    """int64 ids and mask (n, length) -> (n, dim).

    `config` holds `model`, the configuration of a text model; `pools`, whose results stand side by side; and `layers`:
    {"kind": "normalize"}, or {"kind": "dense", "inputs", "outputs", "bias", "activation", "residual"}.
    Raises CheckpointError.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        auto: Any = AutoModel
        self._config = {name: config[name] for name in ("model", "pools", "layers")}
        self.model: Any = auto.from_config(make_text_config(config["model"]), trust_remote_code=False)
        if hasattr(self.model, "pooler"):  # of which nothing is asked, and whose weights many files lack
            self.model.pooler = None
        if not config["pools"] or any(pool not in POOLS for pool in config["pools"]):
            raise CheckpointError(f"its text model pools by {', '.join(config['pools'])}; {', '.join(POOLS)} are known")
        self.layers = nn.ModuleList(_make_layer(layer) for layer in config["layers"])

    @property
    def dim(self) -> int:
        dense = [layer.linear.out_features for layer in self.layers if isinstance(layer, _Dense)]
        return dense[-1] if dense else int(self.model.config.hidden_size) * len(self._config["pools"])

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.vocab_size)

    def config_dict(self) -> dict[str, Any]:
        return dict(self._config)

    def identity(self) -> dict[str, Any]:
        """What of the configuration changes vectors and cannot be seen from the weights."""
        seen = ("inputs", "outputs", "bias")
        layers = [{n: value for n, value in layer.items() if n not in seen} for layer in self._config["layers"]]
        return {
            "model": identify_text_config(self.model.config),
            "pools": list(self._config["pools"]),
            "layers": layers,
        }

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        rows = torch.cat([_pool(tokens, mask, pool) for pool in self._config["pools"]], dim=-1)
        for layer in self.layers:
            rows = layer(rows)
        return rows


def _pool(tokens: Tensor, mask: Tensor, pool: str) -> Tensor:
    """(n, length, width) -> (n, width). Padding stands at the end."""
    if pool == "cls":
        return tokens[:, 0]
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    if pool == "max":
        return tokens.masked_fill(weights == 0, float("-inf")).amax(dim=1)
    count = weights.sum(dim=1).clamp(min=1e-9)
    return (tokens * weights).sum(dim=1) / (count if pool == "mean" else count.sqrt())


class _Unit(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, bias: bool, activation: str, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.is_residual = residual
        self.residual = nn.Linear(inputs, outputs, bias=False) if residual and inputs != outputs else nn.Identity()

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.activation(self.linear(rows))
        return out + self.residual(rows) if self.is_residual else out


def _make_layer(layer: Mapping[str, Any]) -> nn.Module:
    values = dict(layer)
    kind = values.pop("kind", None)
    if kind == "normalize":
        return _Unit()
    if kind != "dense" or values.get("activation") not in ACTIVATIONS:
        raise CheckpointError(f"its text encoder has a layer {kind!r} with {values!r:.200}, which is not known")
    inputs, outputs = int(values["inputs"]), int(values["outputs"])
    return _Dense(
        inputs,
        outputs,
        bias=bool(values["bias"]),
        activation=values["activation"],
        residual=bool(values["residual"]),
    )
