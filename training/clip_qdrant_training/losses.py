"""Contrastive losses over unit rows: pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE

__all__ = ["info_nce"]


def info_nce(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of n matching unit rows (n, dim) each; `logit_scale` is the log of the inverse temperature.

    The scale is clamped to 100 as in CLIP (Radford et al. 2021, section 2.5). Returns a scalar.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * images @ texts.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
