"""The network of a run: copied to be trained, set to its mode, and made a checkpoint of."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.network.freezing import Freezing

__all__ = ["copy_network", "make_checkpoint", "set_train_mode"]


def copy_network(model: DualEncoder, config: TrainConfig, device: str) -> DualEncoder:
    """A copy to be trained, with the dropout and the temperature of the config."""
    copied = copy.deepcopy(model).to(device)
    copied.image_encoder.to(memory_format=torch.channels_last)
    if config.dropout is not None:
        copied.config = replace(copied.config, dropout=config.dropout)
        for head in (copied.image_projection, copied.text_projection):
            for module in head.modules():
                if isinstance(module, nn.Dropout):
                    module.p = config.dropout
    if config.temperature is not None:
        with torch.no_grad():
            copied.logit_scale.fill_(min(MAX_LOGIT_SCALE, -math.log(config.temperature)))
    elif config.loss == "sigmoid":
        with torch.no_grad():
            copied.logit_scale.fill_(math.log(10))  # Zhai et al. 2023, section 3.2
    return copied


def set_train_mode(model: DualEncoder, config: TrainConfig, freezing: Freezing) -> None:
    """Dropout on, except in what is frozen. Frozen BatchNorm keeps the statistics it came with: small batches spoil
    them."""
    model.train()
    if freezing.stages == freezing.depths["image_encoder"]:
        model.image_encoder.eval()
    if freezing.text:
        model.text_encoder.eval()
    if config.batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def make_checkpoint(
    start: Checkpoint, model: DualEncoder, weights: Mapping[str, Tensor], labels: tuple[str, ...]
) -> Checkpoint:
    """The start with these weights, on the CPU, without a trace of how it was trained."""
    finished = copy.deepcopy(start.model)
    finished.config = model.config
    finished.load_state_dict(weights)
    return replace(start, model=finished.eval().requires_grad_(True), trained_on=labels)
