"""The loss that a config asks for, with all its parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.model.dual_encoder import INITIAL_LOGIT_SCALE
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.objective import losses

__all__ = ["Objective"]


class Objective:
    """What a step minimises: the loss over the rows of a batch. `logit_scale` and `logit_bias` are those of the
    network, as far as it has them; `parameters` are learned for the loss alone."""

    def __init__(self, config: TrainConfig, logit_scale: nn.Parameter, logit_bias: nn.Parameter | None = None) -> None:
        self.config = config
        self.loss = config.loss_of(biased=logit_bias is not None)
        self.logit_scale = logit_scale
        self.parameters: Mapping[str, nn.Parameter] = {}
        if self.loss == "sigmoid" and logit_bias is None:
            # SigLIP starts with a bias of -10: nearly no pair of a batch matches (Zhai et al. 2023, section 3.2).
            logit_bias = nn.Parameter(torch.tensor(-10.0, device=logit_scale.device))
            self.parameters = {"logit_bias": logit_bias}
        self.logit_bias = logit_bias

    @property
    def unit(self) -> bool:
        """Whether it wants rows of norm 1; the tutorial's soft targets take what the heads give."""
        return self.loss != "soft_targets"

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        ignore: Tensor,
        teacher: tuple[Tensor, Tensor] | None = None,
        anchors: Tensor | None = None,
        still: Tensor | None = None,
    ) -> Tensor:
        """images (n, dim), texts (n * captions_per_image, dim), ignore bool (n, n * captions_per_image) -> scalar.

        `teacher` are a teacher's rows of the images, and of `anchors` (a, dim) or else of the first text of each image;
        `still` are its rows of all anchors, among which the images are to stay.
        """
        config = self.config
        if self.loss == "info_nce":
            loss = losses.info_nce(images, texts, self.logit_scale, ignore=ignore)
        elif self.loss == "sigmoid":
            assert self.logit_bias is not None
            loss = losses.sigmoid(images, texts, self.logit_scale, self.logit_bias, ignore=ignore)
        else:
            loss = losses.soft_targets(images, texts, config.temperature or 1.0)
        if teacher is not None:
            taught = texts[:: config.captions_per_image] if anchors is None else anchors
            if not self.unit:  # cosines are to be compared with the teacher's
                images, taught = F.normalize(images, dim=-1), F.normalize(taught, dim=-1)
            if anchors is None:
                kept = losses.distillation(
                    images, taught, *teacher, self.logit_scale, teacher_scale=INITIAL_LOGIT_SCALE
                )
            else:
                kept = losses.anchoring(images, taught, *teacher)
            loss = loss + config.distill * kept
            if still is not None:
                loss = loss + config.distill_images * losses.image_anchoring(images, teacher[0], still)
        return loss
