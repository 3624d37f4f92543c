"""Several sets of pairs trained as one, each seen as often as its weight says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.pairs import Pair

__all__ = ["Mixture", "Part"]

# First numbers of the seeds, so that no two kinds of draw share a stream.
_WITHIN_A_PART, _OVER_THE_EPOCH, _HELD_OUT = 1, 2, 3

_LEAST_HELD_OUT, _MOST_HELD_OUT = 20, 1000  # images: few tell nothing, more cost time in each epoch


@dataclass(frozen=True)
class Part:
    """Pairs that share a weight: how often each of them is seen per epoch. 0.5 is every second epoch."""

    pairs: list[Pair]
    weight: float = 1.0
    name: str = ""


class Mixture:
    """Parts in one row of pairs, and what each epoch sees of it: a pure function of seed and epoch.

    A run that resumes asks for the same epoch again and needs no state. Raises ConfigError and TrainingError.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise ConfigError("a mixture needs at least one part: Mixture([Part(pairs)])")
        for number, part in enumerate(parts):
            name = part.name or f"part {number}"
            if not part.pairs:
                raise TrainingError(f"{name} of the mixture has no pairs: leave it out")
            if not (math.isfinite(part.weight) and part.weight > 0):
                raise ConfigError(f"the weight of {name} is {part.weight}: give a number above 0, or leave it out")
        self.parts = tuple(parts)
        self.pairs = [pair for part in parts for pair in part.pairs]
        if sum(math.floor(self._per_epoch(part)) for part in parts) == 0:
            raise ConfigError(
                f"the weights {', '.join(f'{part.weight:g}' for part in parts)} leave epochs without a pair: "
                "give higher weights"
            )

    def size(self, epoch: int) -> int:
        """How many pairs an epoch (from 0) sees: the same number each time, give or take one a part."""
        return sum(stop - start for start, stop in (self._range(part, epoch) for part in self.parts))

    def epoch(self, seed: int, epoch: int) -> list[int]:
        """The indices into `pairs` of one epoch (from 0), shuffled.

        Each part goes round its pairs in an order of its own and an epoch takes up where the last one stopped. So
        after any number of epochs the pairs of a part have been seen equally often, give or take one.
        """
        chosen, first = [], 0
        for number, part in enumerate(self.parts):
            order = first + _generator(_WITHIN_A_PART, seed, number).permutation(len(part.pairs))
            chosen.append(order[np.arange(*self._range(part, epoch)) % len(part.pairs)])
            first += len(part.pairs)
        shuffled: list[int] = _generator(_OVER_THE_EPOCH, seed, epoch).permutation(np.concatenate(chosen)).tolist()
        return shuffled

    def hold_out(self, share: float, seed: int) -> tuple[Mixture, list[Pair]]:
        """The mixture without a `share` of its images, and these with all their captions, of each part alike many.

        At least 20 are held out, at most 1,000, and never more than a third; of fewer than six, or for a share of 0,
        none. Which ones follows from the seed.
        """
        count = min(max(round(share * len(self.pairs)), _LEAST_HELD_OUT), _MOST_HELD_OUT, len(self.pairs) // 3)
        if share == 0 or count < 2:
            return self, []
        kept, held = [], []
        for number, part in enumerate(self.parts):
            several = min(round(count * len(part.pairs) / len(self.pairs)), len(part.pairs) - 1)
            chosen = set(_generator(_HELD_OUT, seed, number).permutation(len(part.pairs))[:several].tolist())
            held += [pair for index, pair in enumerate(part.pairs) if index in chosen]
            kept.append(replace(part, pairs=[pair for index, pair in enumerate(part.pairs) if index not in chosen]))
        return Mixture(kept), held

    @staticmethod
    def _per_epoch(part: Part) -> Fraction:
        # Exact, so that ten epochs at 0.1 are one: in floats, 3 * 0.1 is already above 0.3.
        return Fraction(part.weight).limit_denominator(10**6) * len(part.pairs)

    def _range(self, part: Part, epoch: int) -> tuple[int, int]:
        return math.floor(epoch * self._per_epoch(part)), math.floor((epoch + 1) * self._per_epoch(part))


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([number % 2**64 for number in numbers])
