"""One optimiser step: the network of a run and all that moves it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant_training.inputs.samples import Batch, Samples, make_random
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.distributed import Processes
from clip_qdrant_training.loop.gradients import StepInputs, backward
from clip_qdrant_training.loop.optim import AveragedWeights, make_optimizer
from clip_qdrant_training.network.acceleration import accelerate, choose_precision
from clip_qdrant_training.network.adapters import add_adapters, remove_unused_adapters
from clip_qdrant_training.network.freezing import Freezing
from clip_qdrant_training.network.kinds.open import open_network
from clip_qdrant_training.network.towers import Towers
from clip_qdrant_training.network.weights import copy_network, make_checkpoint, set_temperature, set_train_mode
from clip_qdrant_training.objective.objective import Objective
from clip_qdrant_training.objective.teacher import Teacher

__all__ = ["Learner", "fork_random_state"]


def fork_random_state(device: str) -> contextlib.AbstractContextManager[None]:
    """Within the block torch's generators may be seeded; after it they go on from where they were."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    forked: contextlib.AbstractContextManager[None] = torch.random.fork_rng(devices)
    return forked


class Learner:
    """A copy of the start that learns, a step at a time. `done` counts the steps it has taken.

    `folder` is for the files of `cache="disk"`; without one, what they would hold is kept in memory.
    """

    def __init__(
        self,
        job: TrainingJob,
        *,
        device: str = "cpu",
        processes: Processes | None = None,
        folder: Path | None = None,
    ) -> None:
        config = job.config
        self.config = config
        self.processes = processes or Processes()
        if config.batch_norm == "train" and self.processes.world > 1:
            raise ConfigError(
                "batch_norm is 'train' with several processes, each of which would have statistics of its own: use "
                "batch_norm=frozen"
            )
        self.start, self.labels, self.device = job.start, job.labels, device
        torch.manual_seed(config.seed)
        self.model = copy_network(job.start.model, config, device)
        self.encoders = replace(job.start, model=self.model)
        self.network = open_network(self.encoders)
        set_temperature(self.network, config)
        self.freezing = Freezing(self.network, config)
        if config.lora:
            self._adapt()
        self.freezing.apply()
        self.objective = Objective(config, self.network.logit_scale, self.network.logit_bias)
        self.extra = {**self.network.extra, **self.objective.parameters}
        self.optimizer = make_optimizer(self.freezing, config, self.extra)
        self.averaged = AveragedWeights(self.model, config.ema) if config.ema else None
        precision = choose_precision(config.precision, device)
        self.towers = Towers(
            self.encoders,
            frozen_stages=self.freezing.stages,
            frozen_text=self.freezing.text,
            precision=precision,
            unit=self.objective.unit,
            network=self.network,
        )
        pairs = job.mixture.pairs
        self.samples = Samples(self.encoders, pairs, self.towers, config, views=config.views, folder=folder)
        self.teacher = Teacher(job.teacher or job.start, pairs, config, device, precision) if config.distill else None
        self.done = 0

    def close(self) -> None:
        self.samples.close()
        if self.teacher:
            self.teacher.close()

    def begin_epoch(self) -> None:
        """Turns on dropout, which the judgement of an epoch turns off."""
        set_train_mode(self.freezing)

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Sets the gradients of a batch, summed over all processes and clipped. Returns the loss, and their norm before
        clipping."""
        # Dropout follows from the seed, the step and the process alone, as all else that is random: a resumed run needs
        # no state of generators, and no two processes drop the same units.
        torch.manual_seed(make_random(self.config.seed, self.done, self.processes.rank).getrandbits(63))
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(
            self.towers,
            self._inputs(batch),
            self.objective,
            chunk_size=self.config.chunk_size,
            processes=self.processes,
        )
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.add_gradients(learning)
        return loss, float(nn.utils.clip_grad_norm_(learning, self.config.clip_norm or math.inf))

    def update(self) -> None:
        """Moves the parameters along their gradients, at the learning rates that the optimiser has."""
        self.optimizer.step()
        with torch.no_grad():
            # SigLIP's factor has no limit (Zhai et al. 2023), and published ones are above CLIP's.
            self.network.logit_scale.clamp_(0, math.inf if self.objective.loss == "sigmoid" else MAX_LOGIT_SCALE)
        self.done += 1
        if self.averaged:
            self.averaged.update(self.model, self.done)

    def accelerate(self) -> contextlib.AbstractContextManager[None]:
        """Within the block the image encoder trains faster, with the same results; a published one as it is."""
        if not isinstance(self.model, DualEncoder):
            return contextlib.nullcontext()
        size = self.start.preprocessing.image_size
        example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        fold = self.config.batch_norm == "frozen"
        return accelerate(self.model.image_encoder, example.to(self.device), fold=fold)

    def average(self) -> contextlib.AbstractContextManager[None]:
        """Within the block the network has the averaged weights, if the config asks for these, and no dropout."""
        self.model.eval()
        return self.averaged.swap_in(self.model) if self.averaged else contextlib.nullcontext()

    def checkpoint(self, weights: Mapping[str, Tensor] | None = None, *, trained: bool = True) -> Checkpoint:
        """The network as it is now, or with other weights; the start if it is not `trained`."""
        if not trained:
            network = self.start.model
            labels = self.start.trained_on
            return make_checkpoint(self.start, network, weights or network.state_dict(), self.config, labels)
        return make_checkpoint(self.start, self.model, weights or self.model.state_dict(), self.config, self.labels)

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "objective": {name: p.detach() for name, p in self.extra.items()},
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.weights if self.averaged else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for name, parameter in self.extra.items():
                parameter.copy_(state["objective"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.weights = {name: each.to(self.device) for name, each in state["averaged"].items()}
        self.done = state["done"]

    def _adapt(self) -> None:
        config = self.config
        add_adapters(self.model, self.freezing.is_adaptable, config.lora, config.lora_scale)
        kept = remove_unused_adapters(self.model, self.network.used())
        if not kept:
            raise ConfigError(
                f"lora is {config.lora}, and what is to learn of the encoders has no linear layer to adapt: leave it "
                "out (lora=0), and choose by last_layers or frozen_stages how many layers learn whole"
            )

    def _inputs(self, batch: Batch) -> StepInputs:
        images, texts = self.samples.image_inputs(batch), self.samples.text_inputs(batch)
        if self.teacher is None:
            return StepInputs(batch, images, texts)
        if not self.teacher.anchors:
            first = batch.texts[:: self.config.captions_per_image]
            return StepInputs(batch, images, texts, (self.teacher.images(batch), self.teacher.texts(first)))
        count = min(self.config.anchors_per_step, len(self.teacher.anchors)) // self.processes.world
        # The seed is that of all processes: each keeps its share of the same anchors in place.
        drawn = make_random(self.config.seed, self.done, 2).sample(self.teacher.anchors, count * self.processes.world)
        own = list(self.processes.share(drawn))
        teacher = (self.teacher.images(batch), self.teacher.texts(own))
        still = self.teacher.all_anchors if self.config.distill_images else None
        return StepInputs(batch, images, texts, teacher, anchors=self.towers.text_inputs(own), still=still)
