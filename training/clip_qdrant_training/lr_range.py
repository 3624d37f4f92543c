"""How high learning rates may be: a short training in which they grow until the loss does (Smith 2017).

from clip_qdrant_training import TrainingJob, lr_range_test
found = lr_range_test(TrainingJob(start, pairs))
print(found.suggestion, "times the learning rates of the config")
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.runtime.choice import choose
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.batches import Batches
from clip_qdrant_training.loop.distributed import Processes, limit_threads
from clip_qdrant_training.loop.optim import set_learning_rates
from clip_qdrant_training.loop.step import Learner, fork_random_state
from clip_qdrant_training.output.curves import make_figure, need_matplotlib, save_png
from clip_qdrant_training.output.files import write_picture
from clip_qdrant_training.output.moving_average import Average

__all__ = ["LrRange", "lr_range_test"]

_FEWEST_STEPS = 10  # and the smoothing is over a tenth of them
_HOPELESS = 4  # times the best loss: where fastai's finder stops, too


@dataclass(frozen=True)
class LrRange:
    """What the losses were at growing rates. `factors` multiply the peak rates of the config, all at once.

    `losses` are smoothed over a tenth of the steps. `suggestion` is the factor to train with: the middle of the decade
    of factors in which the loss fell most steeply, where a step gains most. Where the loss rises says less: heads that
    end in a LayerNorm bear nearly any rate for a while. But a start that is trained already shows no descent beyond
    its noise. There it is a tenth of the first factor at which the loss rose above the noise; a tenth, because the loss
    shows late that a rate is too high, and a training stays at its rates for long.
    """

    factors: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def draw(self, path: str | Path) -> Path:
        """Write the losses over the factors as a PNG of 900 x 600 pixels, and return its path.

        Raises MissingExtra without matplotlib, TrainingError for a file that cannot be written.
        """
        need_matplotlib("drawing a learning rate range test")
        figure, path = make_figure(9, 6), Path(path)
        axes = figure.subplots()
        axes.plot(self.factors, self.losses, color="tab:blue", label="loss, smoothed")
        axes.axvline(self.suggestion, color="black", linestyle=":", label=f"suggestion: {self.suggestion:.2g}")
        axes.set_xscale("log")
        axes.set_xlabel("factor of the learning rates")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.3)
        axes.legend()
        write_picture(path, save_png(figure))
        return path


def lr_range_test(job: TrainingJob, *, lowest: float = 1e-3, highest: float = 1e3, steps: int = 100) -> LrRange:
    """Train a copy of the start for `steps`, at factors of the peak rates that grow from `lowest` to `highest`.

    The learning rate range test of Smith 2017 (Cyclical Learning Rates for Training Neural Networks, section 3.3), with
    exponential growth; it ends early when the loss is four times its best or no number. The factors lie around 1: the
    defaults reach a thousandth and a thousand times the rates of the config. Nothing is written, the start stays as it
    is, and the same seed gives the same result.
    Runs in one process. Raises ConfigError for a range that is none, TrainingError where no step could be taken.
    """
    if not 0 < lowest < highest < math.inf:
        raise ConfigError(f"the range is {lowest:g} to {highest:g}: give a lowest factor above 0 and a higher highest")
    if steps < _FEWEST_STEPS:
        raise ConfigError(f"steps is {steps}: a curve needs at least {_FEWEST_STEPS}")
    factors = [lowest * (highest / lowest) ** (number / (steps - 1)) for number in range(steps)]
    config = replace(job.config, ema=0.0)
    device, _ = choose(config.device, "torch")
    average, raw, losses = Average(keep=math.exp(-_FEWEST_STEPS / steps)), [], []
    sweep = _sweep(replace(job, config=config), device, factors)
    with limit_threads(config.threads, Processes()), fork_random_state(device), contextlib.closing(sweep):
        for loss in sweep:
            raw.append(loss)
            losses.append(average.add(loss))
            if losses[-1] > _HOPELESS * min(losses):
                break
    if not losses:
        raise TrainingError("the loss is no number before the first step: check the pairs and the start")
    factors = factors[: len(losses)]
    decade = max(3, round((steps - 1) / math.log10(highest / lowest)))  # in steps
    return LrRange(tuple(factors), tuple(losses), max(lowest, _suggest(factors, raw, losses, decade)))


def _sweep(job: TrainingJob, device: str, factors: Iterable[float]) -> Generator[float, None, None]:
    """The loss before each of as many steps as there are factors, taken at these on the peak rates. Ends early at a
    loss or a gradient that is no number."""
    with (
        contextlib.closing(Learner(job, device=device)) as learner,
        contextlib.closing(Batches(job.mixture, learner.samples, job.config, learner.processes)) as batches,
        learner.accelerate(),
    ):
        learner.begin_epoch()
        coming = (batch for epoch in itertools.count(1) for batch, _ in batches.iterate(epoch))
        for factor, batch in zip(factors, coming, strict=False):
            loss, norm = learner.gradients(batch)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return
            yield loss
            set_learning_rates(learner.optimizer, factor)
            learner.update()


def _suggest(factors: Sequence[float], raw: Sequence[float], losses: Sequence[float], decade: int) -> float:
    """See LrRange. The noise is that of the first quarter of the losses, whose rates are too low to matter."""
    still = raw[: max(3, len(raw) // 4)]
    before, noise = float(np.mean(still)), float(np.std(still))
    lowest = int(np.argmin(losses))
    if before - losses[lowest] > 2 * noise and lowest >= decade:
        starts = range(lowest - decade + 1)
        slopes = [np.polyfit(range(decade), losses[first : first + decade], 1)[0] for first in starts]
        return factors[int(np.argmin(slopes)) + decade // 2]
    above = (factor for factor, loss in zip(factors, losses, strict=True) if loss > before + 2 * noise)
    return next(above, factors[-1]) / 10
