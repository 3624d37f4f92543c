"""The network of a run: copied to be trained, set to its mode, mixed, and made a checkpoint of."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.network.adapters import merge_adapters
from clip_qdrant_training.network.freezing import Freezing
from clip_qdrant_training.network.kinds.protocol import Network

__all__ = ["copy_network", "make_checkpoint", "mix_weights", "set_temperature", "set_train_mode"]


def copy_network(model: Any, config: TrainConfig, device: str) -> Any:
    """A copy to be trained, with the dropout of the config."""
    copied = copy.deepcopy(model).to(device)
    if not isinstance(copied, DualEncoder):
        if config.dropout is not None:
            raise ConfigError(f"dropout is {config.dropout}: heads of a published model have none; leave it out")
        return copied
    copied.image_encoder.to(memory_format=torch.channels_last)
    if config.dropout is not None:
        copied.config = replace(copied.config, dropout=config.dropout)
        for head in (copied.image_projection, copied.text_projection):
            for module in head.modules():
                if isinstance(module, nn.Dropout):
                    module.p = config.dropout
    return copied


@torch.no_grad()
def set_temperature(network: Network, config: TrainConfig) -> None:
    """Has the network begin at the temperature of the config, or at that of SigLIP's loss for one that never had it."""
    if config.temperature is not None:
        network.logit_scale.fill_(min(MAX_LOGIT_SCALE, -math.log(config.temperature)))
    elif config.loss == "sigmoid" and network.logit_bias is None:
        network.logit_scale.fill_(math.log(10))  # Zhai et al. 2023, section 3.2


def set_train_mode(freezing: Freezing) -> None:
    """Dropout on, except in what is frozen. Frozen BatchNorm keeps the statistics it came with: small batches spoil
    them."""
    network = freezing.network
    network.model.train()
    network.image.eval_below(freezing.stages)
    network.text.eval_below(freezing.layers)
    if freezing.config.batch_norm == "frozen":
        for module in network.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def mix_weights(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) x start + share x end, tensor by tensor; counters as in the end (Wortsman et al. 2022, section 3)."""
    return {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }


def make_checkpoint(
    start: Checkpoint, model: Any, weights: Mapping[str, Tensor], config: TrainConfig, labels: tuple[str, ...]
) -> Checkpoint:
    """The start with these weights, on the CPU, without a trace of how it was trained."""
    finished = copy.deepcopy(start.model)
    if isinstance(model, DualEncoder):
        finished.config = model.config
    finished.load_state_dict(merge_adapters(weights, config.lora_scale))
    return replace(start, model=finished.eval().requires_grad_(True), trained_on=labels)
