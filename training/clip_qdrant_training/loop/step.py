"""One step's loss and gradients: any batch size in the memory of one chunk, on any number of processes.

A contrastive loss couples all pairs of a batch, but its gradient reaches the encoders only through the rows that it
compares. So the rows are computed first, the loss and its gradient with respect to them next, and then that gradient
is carried back through the encoders (GradCache, Gao et al. 2021, section 3). With chunks the encoders run twice:
without a graph for the rows, and again, with the same dropout, a chunk at a time for the gradient. With several
processes each has the rows of all, but carries back only the gradient of its own: summed over the processes that is
the gradient of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.model.dual_encoder import INITIAL_LOGIT_SCALE
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.loop import losses
from clip_qdrant_training.loop.distributed import Processes
from clip_qdrant_training.loop.inputs import Batch, Towers

__all__ = ["Objective", "backward"]

Encode = Callable[..., Tensor]


class Objective:
    """The configured loss over the rows of a batch: what a step minimises. Holds what is learned for the loss alone."""

    def __init__(self, config: TrainConfig, logit_scale: nn.Parameter) -> None:
        self.config = config
        self.logit_scale = logit_scale
        # SigLIP starts with a bias of -10: nearly all pairs of a batch do not match (Zhai et al. 2023, section 3.2).
        bias = nn.Parameter(torch.tensor(-10.0, device=logit_scale.device))
        self.parameters: Mapping[str, nn.Parameter] = {"logit_bias": bias} if config.loss == "sigmoid" else {}

    @property
    def unit(self) -> bool:
        """Whether it wants rows of norm 1; the tutorial's soft targets take what the heads give."""
        return self.config.loss != "soft_targets"

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        ignore: Tensor,
        teacher: tuple[Tensor, Tensor] | None = None,
        anchors: Tensor | None = None,
    ) -> Tensor:
        """images (n, dim), texts (n * captions_per_image, dim), ignore bool (n, n * captions_per_image) -> scalar.

        `teacher` are a teacher's rows of the images, and of `anchors` (a, dim) or else of the first text of each image.
        """
        config = self.config
        if config.loss == "info_nce":
            loss = losses.info_nce(
                images,
                texts,
                self.logit_scale,
                ignore=ignore,
                label_smoothing=config.label_smoothing,
                hardness=config.hardness,
            )
        elif config.loss == "sigmoid":
            loss = losses.sigmoid(images, texts, self.logit_scale, self.parameters["logit_bias"], ignore=ignore)
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
        return loss


@dataclass(frozen=True)
class _Side:
    """One side of a batch, images or texts: its inputs in chunks, and what encodes them."""

    encode: Encode
    inputs: tuple[Tensor, ...]
    chunk: int

    def chunks(self) -> list[tuple[Tensor, ...]]:
        return list(zip(*(torch.split(each, self.chunk) for each in self.inputs), strict=True))


def backward(
    towers: Towers,
    image_inputs: Tensor,
    text_inputs: tuple[Tensor, ...],
    batch: Batch,
    objective: Objective,
    *,
    chunk_size: int | None = None,
    processes: Processes | None = None,
    teacher: tuple[Tensor, Tensor] | None = None,
    anchors: tuple[Tensor, ...] | None = None,
) -> float:
    """Adds the gradient of the loss of one batch to the parameters, and returns the loss (of all processes).

    `chunk_size` is how many pairs have activations in memory at once; None is the whole batch. `teacher` are a
    teacher's unit rows of this process's images, and of the first text of each or, if there are text inputs of
    `anchors`, of these.
    """
    processes = processes or Processes()
    captions = len(batch.text_keys) // len(batch.image_keys)
    pairs = chunk_size or len(batch.image_keys)
    texts = [text_inputs] if anchors is None else [text_inputs, anchors]
    sides = [
        _Side(towers.image_rows, (image_inputs,), pairs),
        *(_Side(towers.text_rows, inputs, pairs * captions) for inputs in texts),
    ]
    chunked = pairs < len(batch.image_keys)
    encoded = [_without_graph(side) if chunked else ([side.encode(*side.inputs)], []) for side in sides]
    rows = [torch.cat(parts) for parts, _ in encoded]
    everyone = [processes.gather(each.detach()).requires_grad_(True) for each in rows]
    device = everyone[0].device
    keys = [processes.gather(each.to(device)) for each in (batch.image_keys, batch.text_keys)]
    taught = None if teacher is None else (processes.gather(teacher[0]), processes.gather(teacher[1]))
    loss = objective(everyone[0], everyone[1], losses.duplicates(keys[0], keys[1]), taught, *everyone[2:])
    (loss / processes.world).backward()  # type: ignore[no-untyped-call]  # the loss's own parameters, once a process
    for side, (_, states), all_rows, own_rows in zip(sides, encoded, everyone, rows, strict=True):
        assert all_rows.grad is not None
        gradient = processes.own(all_rows.grad) * processes.world
        if not chunked:
            if own_rows.requires_grad:
                own_rows.backward(gradient)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            continue
        for inputs, part, state in zip(side.chunks(), torch.split(gradient, side.chunk), states, strict=True):
            with _replayed(state):
                again = side.encode(*inputs)
            if again.requires_grad:
                again.backward(part)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return float(loss.detach())


def _without_graph(side: _Side) -> tuple[list[Tensor], list[_RandomState]]:
    """Rows by chunk, and the state of the generators before each: the second pass drops the same units."""
    rows, states = [], []
    with torch.no_grad():
        for inputs in side.chunks():
            states.append(_RandomState())
            rows.append(side.encode(*inputs))
    return rows, states


class _RandomState:
    """torch's generators as they are now."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None


class _replayed:  # noqa: N801  # a context manager reads like a verb
    """Within the block the generators go on from `state`; after it from where they were."""

    def __init__(self, state: _RandomState) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._now = _RandomState()
        _restore(self._state)

    def __exit__(self, *_: object) -> None:
        _restore(self._now)


def _restore(state: _RandomState) -> None:
    torch.set_rng_state(state.cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda)
