"""The training loop: AdamW over three groups of parameters, warm-up and cosine, recall on a dev split, best kept.

from clip_qdrant import ClipEmbedder
clip = ClipEmbedder.fit("train.jsonl", validation="dev.jsonl", output="mine.pt")
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_qdrant.content import bundled_checkpoint
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint, save_checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant.model.fresh import new_checkpoint
from clip_qdrant.runtime import cpu_count
from clip_qdrant.runtime.choice import choose
from clip_qdrant.runtime.exports import read_checkpoint
from clip_qdrant_training.data import Pair, as_pairs
from clip_qdrant_training.evaluate import owners, recall
from clip_qdrant_training.inputs import FeatureInputs, Inputs, PixelInputs, Progress
from clip_qdrant_training.losses import info_nce

__all__ = ["EpochReport", "TrainConfig", "fit", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Learning rates are peaks; `warmup` is a share of all steps.

    With `freeze_encoders` only the heads learn, on features computed once: minutes instead of hours on a CPU.
    Defaults of the learning rates and the weight decay are those of the tutorial lineage.
    """

    epochs: int = 10
    batch_size: int = 64
    freeze_encoders: bool = False
    head_lr: float = 1e-3
    image_lr: float = 1e-4
    text_lr: float = 1e-5
    weight_decay: float = 1e-3
    warmup: float = 0.05
    clip_norm: float = 1.0
    flip: bool = True
    seed: int = 0
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be a whole number")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads!r}: it must be at least 1")
        for name in ("epochs", "batch_size", "head_lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be above 0")
        for name in ("image_lr", "text_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must not be negative")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is {self.warmup!r}: it is a share of all steps, from 0 to below 1")
        if self.batch_size < 2:
            raise ConfigError("batch_size is 1: a contrastive loss needs at least 2 pairs to tell apart")


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; `metrics` are the recalls on the validation pairs, empty without any."""

    epoch: int
    epochs: int
    loss: float
    images_per_second: float
    seconds: float
    best: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


def fit(
    pairs: Any,
    *,
    validation: Any = None,
    start: Checkpoint | str | Path | None = None,
    image_encoder: str | None = None,
    text_encoder: str | None = None,
    output: str | Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    **options: Any,
) -> Checkpoint:
    """Train on `pairs` and return the best checkpoint by mean recall on `validation`, or the last one without it.

    `pairs` and `validation`: a JSONL path, or an iterable of (image, caption or captions). `start`: a checkpoint or
    its path, by default the bundled weights. `image_encoder` (a timm name) or `text_encoder` (a transformers name or
    folder) start anew instead, from these published encoders; the one not given is ResNet50 or DistilBERT. `output`:
    where to write the best. `options`: fields of TrainConfig.

    Raises TrainingError for unusable pairs or a loss that is no number, ConfigError for unusable options.
    """
    known = [item.name for item in fields(TrainConfig)]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(f"unknown option {unknown[0]!r}: there are {', '.join(known)}")
    label = Path(pairs).name if isinstance(pairs, (str, Path)) else "own pairs"
    pairs = as_pairs(pairs)  # first: a mistake in the data is told before any weights are loaded
    validation = None if validation is None else as_pairs(validation)
    config = TrainConfig(**options)
    if image_encoder or text_encoder:
        if start is not None:
            raise ConfigError("give a start, or encoders to start anew from, not both")
        start = new_checkpoint(image_encoder or "resnet50", text_encoder or "distilbert-base-uncased", seed=config.seed)
    if not isinstance(start, Checkpoint):
        start = read_checkpoint(str(bundled_checkpoint() if start in (None, "bundled") else start))
    return train(
        start,
        pairs,
        validation=validation,
        config=config,
        trained_on=label,
        output=None if output is None else Path(output),
        on_epoch=on_epoch,
    )


def train(
    start: Checkpoint,
    pairs: list[Pair],
    *,
    validation: list[Pair] | None = None,
    config: TrainConfig | None = None,
    output: Path | None = None,
    half: bool = False,
    trained_on: str = "own pairs",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_features: Progress | None = None,
) -> Checkpoint:
    """The loop behind `fit`; `start` is left as it is. `half` writes `output` in float16.

    `trained_on` is the label of the pairs, kept in the checkpoint behind those of its start.
    """
    config = config or TrainConfig()
    if not isinstance(start.model, DualEncoder):
        raise TrainingError("only dual encoders of a timm and a transformers model can be trained, not hf: models")
    if len(pairs) < 2:
        raise TrainingError(f"{len(pairs)} pair is not enough for a contrastive loss: give at least 2")
    if output:
        _check_writable(output)
    labels = tuple(dict.fromkeys((*start.trained_on, trained_on)))
    batch_size = min(config.batch_size, len(pairs))
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    device, _ = choose(config.device, "torch")
    checkpoint = replace(start, model=copy.deepcopy(start.model).to(device))
    model: DualEncoder = checkpoint.model
    best, best_score = checkpoint, -math.inf
    with _threads(config.threads or cpu_count()):
        if config.freeze_encoders:
            model.eval()
            inputs: Inputs = FeatureInputs(checkpoint, pairs, flip=config.flip, progress=on_features)
            judged: Inputs | None = FeatureInputs(checkpoint, validation, flip=False) if validation else None
        else:
            inputs = PixelInputs(checkpoint, pairs, flip=config.flip)
            judged = PixelInputs(checkpoint, validation, flip=False) if validation else None
        optimizer, peaks = _optimizer(model, config)
        steps_an_epoch = max(1, len(pairs) // batch_size)
        steps = config.epochs * steps_an_epoch
        step = 0
        for epoch in range(1, config.epochs + 1):
            began, total = time.perf_counter(), 0.0
            _train_mode(model, config)
            order = rng.sample(range(len(pairs)), len(pairs))
            for chosen in _batches(order, batch_size):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * _schedule(step, steps, config.warmup)
                loss = info_nce(*inputs.rows(chosen, rng), model.logit_scale)
                if not torch.isfinite(loss):
                    raise TrainingError(
                        f"the loss is {loss.item()} in step {step} of epoch {epoch}: lower the learning rates"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                nn.utils.clip_grad_norm_(_trainable(model), config.clip_norm)
                optimizer.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
                total += loss.item()
                step += 1
            seconds = time.perf_counter() - began
            model.eval()
            metrics = recall(*judged.all_rows(), owners(validation)) if judged and validation else {}
            score = sum(metrics.values()) if metrics else float(epoch)  # without validation the last one counts
            improved = score > best_score
            if improved:
                best_score = score
                best = replace(checkpoint, model=_finished(model), metrics=metrics, trained_on=labels)
                if output:
                    save_checkpoint(best, output, half=half)
            report = EpochReport(
                epoch=epoch,
                epochs=config.epochs,
                loss=total / steps_an_epoch,
                images_per_second=steps_an_epoch * batch_size / seconds,
                seconds=seconds,
                best=improved,
                metrics=metrics,
            )
            logger.info("%s", report)
            if on_epoch:
                on_epoch(report)
    return best


def _finished(model: DualEncoder) -> DualEncoder:
    """A copy on the CPU that remembers nothing of how it was trained."""
    copied = copy.deepcopy(model).cpu().eval()
    copied.zero_grad(set_to_none=True)
    return copied.requires_grad_(True)


def _check_writable(output: Path) -> None:
    """Raises TrainingError now, not after an hour's epoch, for a checkpoint that could not be written."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise TrainingError(f"cannot write a checkpoint to {output}: {error.strerror or error}") from error
    if output.is_dir():
        raise TrainingError(f"cannot write a checkpoint to {output}: it is a folder; name a file in it")


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizer(model: DualEncoder, config: TrainConfig) -> tuple[torch.optim.AdamW, list[float]]:
    """Heads, image encoder and text encoder at their own rates; no decay for biases, norms and the logit scale."""
    rates = {"image_encoder": config.image_lr, "text_encoder": config.text_lr}
    # A concept head's classifier belongs to the image encoder it was trained with, and is frozen with it.
    frozen = (*(f"{name}." for name in rates), "image_projection.classifier.") if config.freeze_encoders else ()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rates.get(name.split(".")[0], config.head_lr), decay), []).append(parameter)
    optimizer = torch.optim.AdamW([{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()])
    return optimizer, [lr for lr, _ in groups]


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to zero: a factor from 0 to 1."""
    warm = int(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _train_mode(model: DualEncoder, config: TrainConfig) -> None:
    """Dropout on, except in frozen encoders. BatchNorm keeps the statistics it came with: small batches spoil them."""
    model.train()
    if config.freeze_encoders:
        model.image_encoder.eval()
        model.text_encoder.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch's threads within a block: more than there are cores stall small models."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    """Full batches only: a smaller last one would have easier negatives."""
    for start in range(0, len(items) - size + 1, size):
        yield items[start : start + size]
