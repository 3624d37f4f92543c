"""One step's loss and gradients: any batch size in the memory of one chunk, on any number of processes.

A contrastive loss couples all pairs of a batch, but its gradient reaches the encoders only through the rows that it
compares. So the rows are computed first, the loss and its gradient with respect to them next, and then that gradient
is carried back through the encoders (GradCache, Gao et al. 2021, section 3). With chunks the encoders run twice:
without a graph for the rows, and again, with the same dropout, a chunk at a time for the gradient. With several
processes each has the rows of all, but carries back only the gradient of its own: summed over the processes that is
the gradient of the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from clip_qdrant_training.inputs.samples import Batch
from clip_qdrant_training.loop.distributed import Processes
from clip_qdrant_training.network.towers import Towers
from clip_qdrant_training.objective.losses import duplicates
from clip_qdrant_training.objective.objective import Objective

__all__ = ["StepInputs", "backward"]

Encode = Callable[..., Tensor]


@dataclass(frozen=True)
class StepInputs:
    """What one step encodes and compares.

    `images` and `texts` are what the towers' rows are computed from. `teacher` are a teacher's unit rows of this
    process's images, and of the first text of each or, if there are inputs of `anchors`, of these;
    `still` are its rows of all anchors there are.
    """

    batch: Batch
    images: Tensor
    texts: tuple[Tensor, ...]
    teacher: tuple[Tensor, Tensor] | None = None
    anchors: tuple[Tensor, ...] | None = None
    still: Tensor | None = None


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
    inputs: StepInputs,
    objective: Objective,
    *,
    chunk_size: int | None = None,
    processes: Processes | None = None,
) -> float:
    """Adds the gradient of the loss of one batch to the parameters, and returns the loss (of all processes).

    `chunk_size` is how many pairs have activations in memory at once; None is the whole batch.
    """
    processes, batch = processes or Processes(), inputs.batch
    captions = len(batch.text_keys) // len(batch.image_keys)
    pairs = chunk_size or len(batch.image_keys)
    texts = [inputs.texts] if inputs.anchors is None else [inputs.texts, inputs.anchors]
    sides = [
        _Side(towers.image_rows, (inputs.images,), pairs),
        *(_Side(towers.text_rows, each, pairs * captions) for each in texts),
    ]
    chunked = pairs < len(batch.image_keys)
    encoded = [_encode_without_graph(side) if chunked else ([side.encode(*side.inputs)], []) for side in sides]
    rows = [torch.cat(parts) for parts, _ in encoded]
    everyone = [processes.gather(each.detach()).requires_grad_(True) for each in rows]
    device = everyone[0].device
    keys = [processes.gather(each.to(device)) for each in (batch.image_keys, batch.text_keys)]
    teacher = inputs.teacher and (processes.gather(inputs.teacher[0]), processes.gather(inputs.teacher[1]))
    anchors = None if inputs.anchors is None else everyone[2]
    loss = objective(everyone[0], everyone[1], duplicates(keys[0], keys[1]), teacher, anchors, inputs.still)
    (loss / processes.world).backward()  # type: ignore[no-untyped-call]  # the loss's own parameters, once a process
    for side, (_, states), all_rows, own_rows in zip(sides, encoded, everyone, rows, strict=True):
        assert all_rows.grad is not None
        gradient = processes.own(all_rows.grad) * processes.world
        if not chunked:
            if own_rows.requires_grad:
                own_rows.backward(gradient)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            continue
        for chunk, part, state in zip(side.chunks(), torch.split(gradient, side.chunk), states, strict=True):
            with _replay(state):
                again = side.encode(*chunk)
            if again.requires_grad:
                again.backward(part)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return float(loss.detach())


def _encode_without_graph(side: _Side) -> tuple[list[Tensor], list[_RandomState]]:
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

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


@contextlib.contextmanager
def _replay(state: _RandomState) -> Iterator[None]:
    """Within the block the generators go on from `state`; after it from where they were."""
    now = _RandomState()
    state.restore()
    try:
        yield
    finally:
        now.restore()
