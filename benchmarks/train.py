"""How much faster training is than a plain loop.

    python benchmarks/train.py DATA_FOLDER [--images 256] [--batch 32] [--steps 4] [--rounds 3] [--threads 2]
    python benchmarks/train.py DATA_FOLDER --network clip [--last-layers 2] --images 64 --batch 16 --rounds 8

DATA_FOLDER holds train.jsonl. "tutorial" is ResNet50 and DistilBERT, the plain loop as the tutorial lineage writes it;
"clip" is CLIP's ViT-B/32, the plain loop as one writes it with transformers, of which the last layers of both encoders
and the heads learn. Weights are random, so nothing is downloaded: the speed is that of the real ones. Each loop runs in
a process of its own, for its peak memory; they take turns, so that a change in the load of the machine meets both.
Of the turns of "tutorial" the median counts. Those of "clip" are ten epochs, from the first on, in which frozen layers
run for every image: all of them count together, and those of the second half, when all is kept, beside that.
"waits" is the share of the time before a batch was there. On a machine that others use, compare the CPU seconds, with
--threads 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from clip_qdrant.content import bundled_checkpoint
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.published.encoder import HubEncoder
from clip_qdrant.model.weights import read_content
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization
from clip_qdrant.runtime import cpu_count
from clip_qdrant_training import EpochReport, Pair, RunStart, StepReport, TrainConfig, TrainingJob, read_pairs, train
from clip_qdrant_training.network.acceleration import choose_precision
from clip_qdrant_training.objective.losses import soft_targets

_SEP = 102  # where CLIP's text encoder takes its vector from


@dataclass(frozen=True)
class Setting:
    """What both loops train on."""

    pairs: list[Pair]
    batch: int
    threads: int
    layers: int
    last_layers: int
    precision: Literal["auto", "float32"]


@dataclass(frozen=True)
class Turn:
    """Some steps in a row: seconds by the clock, those of them before a batch was there, those of all cores, and the
    process's peak memory so far."""

    seconds: float
    waited: float
    busy: float
    gigabytes: float


class Turns:
    """Lets a loop run for as many steps as the other end of the pipe asks for, and tells it of them.

    The first step of a turn does not count: what a loop prepared while it stood still was for free.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._wanted = self._next()
        self._steps: list[tuple[float, float]] = []
        self._busy = self._last = 0.0

    def stepped(self, seconds: float, waited: float) -> None:
        """After each step; raises StopTurns after the last."""
        if not self._steps:
            self._busy = time.process_time()
        self._last = time.process_time()
        self._steps.append((seconds, waited))
        if len(self._steps) > self._wanted:
            seconds, waited = (sum(each) for each in zip(*self._steps[1:], strict=True))
            self._pipe.send(Turn(seconds, waited, time.process_time() - self._busy, _peak_gigabytes()))
            self._steps, self._wanted = [], self._next()

    def skip(self) -> None:
        """After what is no part of a step: the end of an epoch, for which the plain loops do nothing."""
        self._busy += time.process_time() - self._last

    def _next(self) -> int:
        wanted = int(self._pipe.recv())
        if not wanted:
            raise StopTurns
        return wanted


class StopTurns(Exception):
    """There are no more turns."""


def checkpoint() -> Checkpoint:
    """The network of the recipe "tutorial" with random weights, and bert-base-uncased's tokenizer."""
    torch.manual_seed(0)
    preprocessing = Preprocessing(interpolation="bilinear")
    model = DualEncoder(DualEncoderConfig(), preprocessing)
    tokenizer = str(read_content(bundled_checkpoint())["tokenizer"])
    return Checkpoint(model.eval(), preprocessing, Tokenization(max_length=200), tokenizer)


def plain(setting: Setting, turns: Turns) -> None:
    """As the tutorial does it: each image decoded in the step that needs it, float32, BatchNorm in training mode."""
    start = checkpoint()
    model = start.model.train()
    groups = [
        {"params": model.image_encoder.parameters(), "lr": 1e-4},
        {"params": model.text_encoder.parameters(), "lr": 1e-5},
        {"params": [*model.image_projection.parameters(), *model.text_projection.parameters()], "lr": 1e-3},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    loader = torch.utils.data.DataLoader(Rows(setting.pairs, start), setting.batch, shuffle=True, drop_last=True)
    while True:
        at = time.perf_counter()
        for batch in loader:
            waited = time.perf_counter() - at
            image_features = model.image_encoder(batch["image"])
            text_features = model.text_encoder(batch["ids"], batch["mask"])
            loss = soft_targets(model.image_projection(image_features), model.text_projection(text_features))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            loss.item()
            turns.stepped(time.perf_counter() - at, waited)
            at = time.perf_counter()


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The tutorial's dataset: all captions tokenised in advance and padded to the longest, images decoded when asked
    for."""

    def __init__(self, pairs: list[Pair], start: Checkpoint) -> None:
        self.images = [pair.image for pair in pairs]
        tokenize = TextTokenizer(start.tokenizer, start.tokenization)
        self.ids, self.mask = (torch.from_numpy(each) for each in tokenize([pair.captions[0] for pair in pairs]))
        self.mean, self.std = (torch.tensor(each) for each in (start.preprocessing.mean, start.preprocessing.std))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        with Image.open(self.images[number]) as file:
            rgb = file.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        pixels = (torch.from_numpy(np.array(rgb)).float() / 255 - self.mean) / self.std
        return {"image": pixels.permute(2, 0, 1), "ids": self.ids[number], "mask": self.mask[number]}


def ours(setting: Setting, turns: Turns) -> None:
    """The package's loop, with the loss and the rates of the recipe."""
    config = TrainConfig.load(
        "tutorial",
        batch_norm="frozen",
        precision="auto",
        schedule="constant",
        batch_size=setting.batch,
        threads=setting.threads,
        epochs=1_000_000,
        device="cpu",
    )
    start = checkpoint()
    set_statistics(start, setting)
    train(TrainingJob(start, setting.pairs, config=config), watcher=Steps(turns))


def set_statistics(start: Checkpoint, setting: Setting) -> None:
    """Those of a few images in every BatchNorm: frozen, random weights would let activations grow layer by layer."""
    norms = [module for module in start.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None
    rows = Rows(setting.pairs[:8], start)
    with torch.no_grad():
        start.model.image_encoder(torch.stack([rows[number]["image"] for number in range(len(rows))]))
    start.model.eval()


class Steps:
    """A watcher that hands the times of steps on."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def started(self, run: RunStart) -> None:
        pass

    def stepped(self, report: StepReport) -> None:
        self._turns.stepped(report.seconds, report.waited * report.seconds)

    def epoch_ended(self, report: EpochReport) -> None:  # noqa: ARG002  # of the protocol
        self._turns.skip()

    def ended(self) -> None:
        pass


def clip(layers: int) -> Checkpoint:
    """CLIP's ViT-B/32 as transformers configures it, of so many layers, with random weights, and bert-base-uncased's
    tokenizer."""
    torch.manual_seed(0)
    tokenizer = str(read_content(bundled_checkpoint())["tokenizer"])
    preprocessing = Preprocessing(resize="crop")
    text = {"eos_token_id": _SEP, "bos_token_id": 101, "pad_token_id": 0, "num_hidden_layers": layers}
    config = CLIPConfig(text_config=text, vision_config={"num_hidden_layers": layers})
    return Checkpoint(
        HubEncoder(CLIPModel(config), preprocessing).eval(), preprocessing, Tokenization(max_length=77), tokenizer
    )


def plain_clip(setting: Setting, turns: Turns) -> None:
    """With transformers' model, loss and image processor, in float32; frozen layers have no gradient."""
    start = clip(setting.layers)
    model = start.model.model.train().requires_grad_(False)
    learning = [model.visual_projection, model.text_projection]
    for encoder in (model.vision_model, model.text_model):
        learning += encoder.encoder.layers[len(encoder.encoder.layers) - setting.last_layers :]
    parameters = [*(p for module in learning for p in module.parameters()), model.logit_scale]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    tokenize = TextTokenizer(start.tokenizer, start.tokenization)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 224}, image_mean=start.preprocessing.mean, image_std=start.preprocessing.std
    )

    def collate(rows: list[Pair]) -> dict[str, Tensor]:
        images = [Image.open(row.image).convert("RGB") for row in rows]
        ids, mask = (torch.from_numpy(each) for each in tokenize([row.captions[0] for row in rows]))
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask}

    rows: Any = setting.pairs
    loader = torch.utils.data.DataLoader(rows, setting.batch, shuffle=True, drop_last=True, collate_fn=collate)
    while True:
        at = time.perf_counter()
        for batch in loader:
            waited = time.perf_counter() - at
            loss = model(**batch, return_loss=True).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            turns.stepped(time.perf_counter() - at, waited)
            at = time.perf_counter()


def our_clip(setting: Setting, turns: Turns) -> None:
    """The package's loop with its defaults: four views of each image, cropped, coloured and mirrored."""
    config = TrainConfig(
        last_layers=setting.last_layers,
        batch_size=setting.batch,
        threads=setting.threads,
        precision=setting.precision,
        epochs=1_000_000,
        schedule="constant",
        device="cpu",
    )
    train(TrainingJob(clip(setting.layers), setting.pairs, config=config), watcher=Steps(turns))


LOOPS: dict[str, Callable[[Setting, Turns], None]] = {"plain": plain, "ours": ours}
CLIP_LOOPS: dict[str, Callable[[Setting, Turns], None]] = {"transformers": plain_clip, "clip_qdrant": our_clip}


def run(name: str, setting: Setting, pipe: Connection) -> None:
    """A loop in its own process."""
    torch.set_num_threads(setting.threads)
    try:
        {**LOOPS, **CLIP_LOOPS}[name](setting, Turns(pipe))
    except StopTurns:
        pipe.close()


def take_turns(names: Iterable[str], setting: Setting, steps: int, rounds: int) -> Iterator[tuple[str, Turn]]:
    """Each turn of each loop, after a first one that is not told."""
    context = multiprocessing.get_context("spawn")
    loops: dict[str, tuple[Connection, Any]] = {}
    for name in names:
        here, there = context.Pipe()
        process = context.Process(target=run, args=(name, setting, there), daemon=True)
        process.start()
        there.close()
        loops[name] = (here, process)
    for number in range(rounds + 1):
        for name, (pipe, _) in loops.items():
            pipe.send(steps if number else 1)
            turn: Turn = pipe.recv()
            if number:
                yield name, turn
    for pipe, process in loops.values():
        pipe.send(0)
        process.join()


def _peak_gigabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)  # bytes there, KiB elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each loop")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--network", choices=["tutorial", "clip"], default="tutorial")
    parser.add_argument("--layers", type=int, default=12, help="of each encoder, with --network clip")
    parser.add_argument("--last-layers", type=int, default=2, help="of each encoder learn, with --network clip")
    parser.add_argument("--precision", choices=["auto", "float32"], default="auto", help="ours, with --network clip")
    options = parser.parse_args()

    rows = read_pairs(options.folder / "train.jsonl")[: options.images]
    pairs = [Pair(row.image, row.captions[:1]) for row in rows]
    setting = Setting(pairs, options.batch, options.threads, options.layers, options.last_layers, options.precision)
    loops = LOOPS if options.network == "tutorial" else CLIP_LOOPS
    turns: dict[str, list[Turn]] = {name: [] for name in loops}
    for name, turn in take_turns(loops, setting, options.steps, options.rounds):
        turns[name].append(turn)
    if options.network == "clip":
        show_clip(turns, options.batch * options.steps, setting)
        return
    images = options.batch * options.steps
    rates = {name: [images / turn.seconds for turn in told] for name, told in turns.items()}
    usual = statistics.median(rates["plain"])

    table = Table(title=f"ResNet50 and DistilBERT, batches of {options.batch}, {options.threads} threads")
    for heading in ("loop", "images/s", "lowest", "highest", "ratio", "CPU s/image", "waits", "peak GB"):
        table.add_column(heading, justify="left" if heading == "loop" else "right", no_wrap=True)
    for name, told in turns.items():
        rate = statistics.median(rates[name])
        table.add_row(
            name,
            f"{rate:.2f}",
            f"{min(rates[name]):.2f}",
            f"{max(rates[name]):.2f}",
            f"{rate / usual:.2f}",
            f"{statistics.median(turn.busy for turn in told) / images:.3f}",
            f"{100 * statistics.median(turn.waited / turn.seconds for turn in told):.1f} %",
            f"{told[-1].gigabytes:.2f}",
        )
    console = Console()
    console.print(table)
    precision = str(choose_precision("auto", "cpu")).removeprefix("torch.")
    console.print(
        "plain: float32, BatchNorm in training mode, images decoded in their step, captions as long as the longest of "
        f"all.\nours: {precision}, BatchNorm frozen and folded, images decoded ahead and kept, captions as long "
        "as the longest of the batch."
    )


def show_clip(turns: Mapping[str, list[Turn]], images: int, setting: Setting) -> None:
    """`images` is how many a turn has."""
    plain, *_ = turns.values()
    title = (
        f"CLIP ViT-B/32, the last {setting.last_layers} of {setting.layers} layers learn, batches of {setting.batch}"
    )
    table = Table(title=f"{title}, {setting.threads} threads")
    headings = ("steps/s", "ratio", "CPU s/image", "ratio", "CPU s/image once kept", "ratio", "peak GB")
    for heading in ("loop", *headings):
        table.add_column(heading, justify="left" if heading == "loop" else "right")
    for name, told in turns.items():
        cells = []
        for each in (list(told), list(told)[len(told) // 2 :]):
            theirs = plain[-len(each) :]
            busy, usual = sum(turn.busy for turn in each), sum(turn.busy for turn in theirs)
            if len(each) == len(told):
                seconds = sum(turn.seconds for turn in each)
                steps = images / setting.batch * len(each)
                ratio = sum(turn.seconds for turn in theirs) / seconds
                cells += [f"{steps / seconds:.3f}", f"{ratio:.2f}"]
            cells += [f"{busy / images / len(each):.3f}", f"{usual / busy:.2f}"]
        table.add_row(name, *cells, f"{told[-1].gigabytes:.2f}")
    console = Console()
    console.print(table)
    precision = "float32" if setting.precision == "float32" else str(choose_precision("auto", "cpu"))
    ours = f"{precision.removeprefix('torch.')}, four augmented views of an image, what is frozen kept for each"
    console.print(
        "transformers: float32, frozen layers without gradient, images through its processor in their step.\n"
        f"clip_qdrant: {ours}."
    )


if __name__ == "__main__":
    main()
