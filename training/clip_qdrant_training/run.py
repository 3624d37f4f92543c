"""A run with its folder: the settings it has, what it saw and did, the state it goes on from, its best and a report.

runs/mine/
  config.toml     the settings, as a recipe that gives the same run; where its pairs come from
  samples.png     the first batch as the model sees it
  log.jsonl       every step and epoch
  curves.png      the same as a picture, redrawn while it trains
  last.state      what `resume` goes on from
  best.pt         the best checkpoint so far
  report.html     figures, best and worst queries, once it is done; with validation pairs only
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from clip_qdrant.errors import ConfigError, MissingExtra, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant_training.inputs.samples import Batch
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.distributed import is_main
from clip_qdrant_training.loop.state import STATE
from clip_qdrant_training.loop.trainer import TrainingOutcome, train
from clip_qdrant_training.output.curves import need_matplotlib
from clip_qdrant_training.output.files import replace_file
from clip_qdrant_training.output.grid import draw_samples
from clip_qdrant_training.output.log import RunLog, read_log
from clip_qdrant_training.output.report import run_report
from clip_qdrant_training.output.watchers.together import Together
from clip_qdrant_training.progress import Watcher

__all__ = ["run_training"]

logger = logging.getLogger(__name__)


def run_training(
    job: TrainingJob,
    folder: Path,
    *,
    resume: bool = False,
    watchers: Iterable[Watcher] = (),
    notes: Iterable[str] = (),
) -> Checkpoint:
    """`train` with a folder for all that a run leaves, and return the best checkpoint.

    `watchers` follow the run beside its log. `notes` are lines for the head of config.toml, such as where the
    validation pairs come from. Without matplotlib a run goes without its two pictures.

    Raises ConfigError for a folder that has the state of a run already, unless it is to `resume`.
    """
    if (folder / STATE).exists() and not resume:
        raise ConfigError(f"{folder} holds a run: go on with it (--resume, resume=True), or give another (--run)")
    pictures = _pictures()
    if is_main() and not (folder / STATE).exists():  # a run that cannot resume with this config keeps its own
        _write_config(folder, job, notes)
    outcome = train(
        job,
        run=folder,
        resume=resume,
        watcher=Together([RunLog(folder, curves=pictures), *watchers]),
        on_first_batch=partial(_draw_samples, folder, job.config.captions_per_image) if pictures else None,
    )
    if job.validation and is_main():
        _write_report(folder, outcome, job)
    return outcome.checkpoint


def _pictures() -> bool:
    try:
        need_matplotlib("drawing curves.png and samples.png")
    except MissingExtra as error:
        logger.warning("the run goes without pictures: %s", error)
        return False
    return True


def _write_config(folder: Path, job: TrainingJob, notes: Iterable[str]) -> None:
    from clip_qdrant import __version__

    head = [f"clip-qdrant {__version__}", f"start: fingerprint {job.start.fingerprint()[:12]}"]
    head += [
        f"pairs: {part.name or 'own pairs'} ({len(part.pairs):,}, weight {part.weight:g})" for part in job.mixture.parts
    ]
    head += [f"validation: {len(job.validation):,} pairs"] if job.validation else []
    text = "".join(f"# {_printable(line)}\n" for line in (*head, *notes)) + "\n" + job.config.to_toml()
    path = folder / "config.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error.strerror or error}; give another folder by --run") from error


def _printable(line: str) -> str:
    """A line without what would end it or is forbidden in TOML: names of files may hold anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _draw_samples(folder: Path, captions_per_image: int, batch: Batch) -> None:
    """`pixels` has those images of the batch that no frozen features stand for yet: before training, all of them."""
    captions = [batch.texts[position * captions_per_image] for position in batch.missing]
    draw_samples(folder, batch.pixels.numpy(), captions)


def _write_report(folder: Path, outcome: TrainingOutcome, job: TrainingJob) -> None:
    if outcome.images is None or outcome.texts is None:  # begun without validation pairs, and no epoch was left
        return
    run_report(
        folder / "report.html",
        log=read_log(folder),
        images=outcome.images,
        texts=outcome.texts,
        pairs=list(job.validation or ()),
        config=job.config.to_dict(),
        mixes=outcome.mixes,
        title=f"Training run {folder.resolve().name}",
    )
