"""A run is followed by its log, curves, live table, TensorBoard and W&B, and dies of none of the displays."""

from __future__ import annotations

import io
import json
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from clip_qdrant.errors import ConfigError, MissingExtra, TrainingError
from clip_qdrant_training.output.curves import draw_curves, plot_curves
from clip_qdrant_training.output.files import replace_file
from clip_qdrant_training.output.grid import draw_samples
from clip_qdrant_training.output.log import RunLog, read_log
from clip_qdrant_training.output.moving_average import Average
from clip_qdrant_training.output.watchers.live_table import LiveTable, epoch_line
from clip_qdrant_training.output.watchers.tensorboard import TensorBoard
from clip_qdrant_training.output.watchers.together import Display, Together
from clip_qdrant_training.output.watchers.weights_and_biases import WeightsAndBiases
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher

STEPS_AN_EPOCH = 4


def start(step: int = 0, *, epochs: int = 3) -> RunStart:
    return RunStart(
        epochs=epochs,
        steps=epochs * STEPS_AN_EPOCH,
        step=step,
        pairs=1234,
        captions=6170,
        trainable=50_000,
        parameters=2_000_000,
        config={"seed": 0, "head_lr": 1e-3, "labels": ["own pairs"]},
    )


def step(number: int, *, loss: float | None = None, grad_norm: float = 1.5, epochs: int = 3) -> StepReport:
    return StepReport(
        step=number,
        steps=epochs * STEPS_AN_EPOCH,
        epoch=(number - 1) // STEPS_AN_EPOCH + 1,
        loss=4.0 / number if loss is None else loss,
        lr={"head": 1e-3 / number, "image": 1e-4},
        logit_scale=14.25,
        grad_norm=grad_norm,
        images_per_second=100.0 + number,
        waited=0.125,
        seconds=0.5,
    )


def epoch(number: int, *, best: bool = True, judged: bool = True, epochs: int = 3) -> EpochReport:
    recalls = {
        f"{direction}_recall@{k}": float(10 * number + k + offset)
        for direction, offset in (("text_to_image", 0), ("image_to_text", 3))
        for k in (1, 5, 10)
    }
    return EpochReport(
        epoch=number,
        epochs=epochs,
        loss=2.0 / number,
        images_per_second=321.0,
        seconds=75.0,
        best=best,
        waited=0.1,
        metrics=recalls if judged else {},
    )


def follow(watcher: Watcher, *, first: int = 1, last: int = 12, epochs: int = 3) -> None:
    """Tells a watcher of the steps `first` to `last` of a run, which starts anew or resumes."""
    watcher.started(start(first - 1, epochs=epochs))
    for number in range(first, last + 1):
        watcher.stepped(step(number, epochs=epochs))
        if number % STEPS_AN_EPOCH == 0:
            watcher.epoch_ended(epoch(number // STEPS_AN_EPOCH, epochs=epochs))
    watcher.ended()


def killed(folder: Path, *, last: int) -> bytes:
    """The log of a run that was killed after a step: it has no end."""
    follow(RunLog(folder, curves=False), last=last)
    path = folder / "log.jsonl"
    content = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
    path.write_bytes(content)
    return content


def steps_of(folder: Path) -> list[int]:
    return [row["step"] for row in read_log(folder) if row["kind"] == "step"]


# The log


def test_the_log_has_a_row_for_each_event_with_all_of_its_fields(tmp_path: Path) -> None:
    follow(RunLog(tmp_path / "runs" / "first", curves=False))
    rows = read_log(tmp_path / "runs" / "first")
    assert [row["kind"] for row in rows] == ["start", *(["step"] * 4 + ["epoch"]) * 3, "end"]
    assert rows[0]["config"] == {"seed": 0, "head_lr": 1e-3, "labels": ["own pairs"]}
    third = {name: value for name, value in rows[3].items() if name not in ("kind", "time")}
    assert third == {**vars(step(3))}
    assert rows[5]["metrics"] == epoch(1).metrics
    assert [row["step"] for row in rows if row["kind"] == "epoch"] == [4, 8, 12]
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    assert times[0] > 1.6e9


def test_each_row_is_on_disk_as_soon_as_it_is_told(tmp_path: Path) -> None:
    log = RunLog(tmp_path, curves=False)
    log.started(start())
    for number in (1, 2, 3):
        log.stepped(step(number))
        assert steps_of(tmp_path)[-1] == number
    log.ended()


def test_steps_may_be_thinned_but_the_last_one_is_kept(tmp_path: Path) -> None:
    follow(RunLog(tmp_path, every=5, curves=False))
    assert steps_of(tmp_path) == [5, 10, 12]
    with pytest.raises(ConfigError, match="every is 0"):
        RunLog(tmp_path, every=0)


def test_numbers_that_are_none_are_null_so_that_every_json_reader_reads_the_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.started(start())
    log.stepped(step(1, grad_norm=float("inf")))
    log.stepped(step(2, loss=float("nan")))
    log.ended()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert (rows[1]["grad_norm"], rows[2]["loss"]) == (None, None)
    assert (tmp_path / "curves.png").exists()  # and drawing passes over them


def test_a_resumed_run_cuts_off_what_it_will_do_again(tmp_path: Path) -> None:
    before = killed(tmp_path, last=10).splitlines()  # in the third epoch; its checkpoint is of step 6
    follow(RunLog(tmp_path, curves=False), first=7)
    rows = read_log(tmp_path)
    assert steps_of(tmp_path) == list(range(1, 13))
    assert [row["epoch"] for row in rows if row["kind"] == "epoch"] == [1, 2, 3]
    assert [row["step"] for row in rows if row["kind"] == "start"] == [0, 6]
    assert (tmp_path / "log.jsonl").read_bytes().splitlines()[:8] == before[:8]  # start, 4 steps, epoch, 2 steps
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_resuming_again_from_further_back_cuts_off_the_later_start_and_end(tmp_path: Path) -> None:
    follow(RunLog(tmp_path, curves=False), last=8)
    follow(RunLog(tmp_path, curves=False), first=9, last=9)
    follow(RunLog(tmp_path, curves=False), first=3, last=4)
    told = [(row["kind"], row["step"]) for row in read_log(tmp_path)]
    expected = [("start", 0), ("step", 1), ("step", 2)]
    assert told == [*expected, ("start", 2), ("step", 3), ("step", 4), ("epoch", 4), ("end", 4)]


def test_a_run_from_the_first_step_begins_a_new_log(tmp_path: Path) -> None:
    follow(RunLog(tmp_path, curves=False), last=3)
    follow(RunLog(tmp_path, curves=False), last=2)
    assert [(row["kind"], row["step"]) for row in read_log(tmp_path)] == [
        ("start", 0),
        ("step", 1),
        ("step", 2),
        ("end", 2),
    ]


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_a_half_written_last_line_is_dropped_by_readers_and_by_a_resumed_run(tmp_path: Path, cut: int) -> None:
    (tmp_path / "log.jsonl").write_bytes(killed(tmp_path, last=7)[:-cut])
    whole = 7 if cut == 1 else 6  # without its line feed alone a row is still whole
    assert steps_of(tmp_path) == list(range(1, whole + 1))
    follow(RunLog(tmp_path, curves=False), first=7, last=8)
    assert steps_of(tmp_path) == list(range(1, 9))


def test_a_file_that_is_no_log_is_named_with_its_line_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no log\.jsonl in .*give the folder of a run"):
        read_log(tmp_path)
    path = tmp_path / "log.jsonl"
    for nonsense in ("shopping list", "[1, 2]", '{"no": "kind"}', "\x00\x00"):
        text = '{"kind": "start", "step": 0}\n' + nonsense + '\n{"kind": "end", "step": 0}\n'
        path.write_text(text)
        with pytest.raises(TrainingError, match="line 2 is no row of a log"):
            read_log(tmp_path)
        with pytest.raises(TrainingError, match="line 2"):
            RunLog(tmp_path, curves=False).started(start(4))
        assert path.read_text() == text


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: writing fails as on a full disk, with another number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_stops_the_run_names_the_folder_and_can_be_resumed_from(tmp_path: Path) -> None:
    log = RunLog(tmp_path, curves=False)
    with full_disk(2000), pytest.raises(TrainingError, match=f"cannot write the log of the run in {tmp_path}: "):
        follow(log)
    written = steps_of(tmp_path)
    assert written == list(range(1, len(written) + 1))
    assert written
    log.ended()  # says nothing more
    follow(RunLog(tmp_path, curves=False), first=len(written) + 1)
    assert steps_of(tmp_path) == list(range(1, 13))


def test_a_folder_that_cannot_be_made_is_told_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write the log of the run in .*file/run"):
        RunLog(tmp_path / "file" / "run", curves=False).started(start())


# The curves


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


def test_curves_are_a_png_drawn_after_the_first_epoch_and_at_the_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.started(start())
    for number in range(1, 5):
        log.stepped(step(number))
    assert not (tmp_path / "curves.png").exists()
    log.epoch_ended(epoch(1))
    first = (tmp_path / "curves.png").read_bytes()
    log.stepped(step(5))
    log.ended()
    last = (tmp_path / "curves.png").read_bytes()
    assert size_of(first) == size_of(last) == (1200, 800)
    assert first != last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


def test_curves_show_what_the_rows_say() -> None:
    steps = [{"kind": "step", **vars(step(number))} for number in range(1, 9)]
    steps[2]["loss"] = None  # was no number
    epochs = [{"kind": "epoch", "step": 4 * n, **vars(epoch(n, best=n == 1))} for n in (1, 2)]
    axes = {panel.get_title(): panel for panel in plot_curves([*steps, *epochs]).axes}
    lines = {
        (title, line.get_label()): list(zip(*line.get_data(), strict=True))
        for title, panel in axes.items()
        for line in panel.lines
    }
    assert lines["loss", "epoch"] == [(4, 2.0), (8, 1.0)]
    assert [x for x, _ in lines["loss", "moving average"]] == [1, 2, 4, 5, 6, 7, 8]
    assert lines["loss", "moving average"][0] == (1, pytest.approx(4.0))
    assert lines["images per second", "epoch"] == [(4, 321.0), (8, 321.0)]
    assert lines["learning rate", "head"] == [(n, 1e-3 / n) for n in range(1, 9)]
    assert lines["learning rate", "image"] == [(n, 1e-4) for n in range(1, 9)]
    recall = "recall on the validation pairs, percent"
    assert lines[recall, "image to text@10"] == [(4, 23.0), (8, 33.0)]
    assert lines[recall, "best"][0][0] == 4


def test_curves_of_very_long_and_of_empty_runs_are_drawn() -> None:
    assert size_of(draw_curves([])) == (1200, 800)
    assert plot_curves([{"kind": "epoch", "step": 4, **vars(epoch(1, judged=False))}]).axes
    row = {"kind": "step", **vars(step(1))}
    long = plot_curves([{**row, "step": number} for number in range(100_001)])
    counts = {len(line.get_xdata()) for panel in long.axes for line in panel.lines}
    assert max(counts) <= 4001
    assert {line.get_xdata()[-1] for panel in long.axes for line in panel.lines} == {100_000}


@pytest.mark.slow
def test_drawing_takes_no_more_than_a_share_of_a_run_of_short_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(
        "clip_qdrant_training.output.log.draw_curves", lambda rows: drawn.append(draw_curves(rows)) or b""
    )
    follow(RunLog(tmp_path), last=400, epochs=100)
    assert 2 <= len(drawn) <= 10  # the first epoch, the end, and few of the hundred between


def test_curves_that_cannot_be_drawn_do_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(rows: object) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("clip_qdrant_training.output.log.draw_curves", broken)
    follow(RunLog(tmp_path))
    assert [record.message for record in caplog.records] == [
        f"cannot draw {tmp_path / 'curves.png'}: the run goes on without"
    ]
    assert len(read_log(tmp_path)) == 17


def test_a_file_that_could_not_be_replaced_is_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    replace_file(path, b"old")
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        replace_file(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_moving_average_starts_at_its_first_value_and_follows_the_last_ones() -> None:
    average = Average(0.9)
    assert average.add(5.0) == pytest.approx(5.0)
    assert average.add(7.0) == pytest.approx((0.9 * 5 + 7) / 1.9)
    assert [average.add(1.0) for _ in range(200)][-1] == pytest.approx(1.0)


# The live table


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Clock:
    """Ten seconds pass between two looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def test_a_terminal_gets_a_row_for_each_epoch_and_a_line_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = terminal(width=120)
    follow(LiveTable(console, clock=Clock()))
    text = written(console)
    assert "1,234 pairs, 6,170 captions; 50,000 of 2,000,000 parameters learn" in text
    assert "    1/3   2.0000     11.0 15.0 20.0     14.0 18.0 23.0       321  0:01:15  best" in text
    assert "3/3   0.6667" in text
    first, sixth = (next(part for part in text.split("\r") if f"step {n}/12" in part) for n in (1, 6))
    assert "step 1/12  loss 4.0000  101 images/s  12% waited  0:01:50 left" in first
    assert "R@1 11.0 / 14.0  best 11.0 / 14.0" in sixth
    assert "0:01:00 left" in sixth
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and given back


def test_the_best_epoch_stays_beside_a_later_worse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = terminal(width=120)
    table = LiveTable(console, clock=Clock())
    table.started(start(8))
    table.epoch_ended(epoch(2))
    table.epoch_ended(epoch(1, best=False))
    table.stepped(step(9))
    table.ended()
    text = written(console)
    assert "resumed after step 8" in text
    assert text.count("0:01:15  best") == 1
    assert "R@1 11.0 / 14.0  best 21.0 / 24.0" in text
    assert "0:00:30 left" in text  # three more steps like the one since the resumed step


def test_the_live_line_fits_a_narrow_terminal_and_is_not_drawn_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = terminal(width=40)
    table = LiveTable(console, clock=lambda: 1.0)
    follow(table)
    live = [line for line in written(console).splitlines() if "step " in line]
    assert live
    assert all("step 1/12" in line or "step 12/12" in line for line in live)
    assert all(len(line[line.rindex("step ") :]) <= 40 for line in live)


def test_without_a_terminal_an_epoch_is_one_plain_line() -> None:
    console = Console(file=io.StringIO(), width=40)  # narrower than the lines, which are not broken
    table = LiveTable(console)
    follow(table, last=8)
    table.epoch_ended(epoch(3, best=False, judged=False))
    recalls = "text to image@1 11.0  text to image@5 15.0  text to image@10 20.0  image to text@1 14.0"
    lines = written(console).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"epoch 1/3  loss 2.0000  75 s  321 images/s  {recalls}")
    assert lines[0].endswith("  best so far")
    assert lines[0] == epoch_line(epoch(1))
    assert lines[2] == "epoch 3/3  loss 0.6667  75 s  321 images/s"


# TensorBoard


def test_tensorboard_reads_back_the_scalars_and_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(TensorBoard(tmp_path), last=10)
    resumed = TensorBoard(tmp_path)
    resumed.started(start(6))
    resumed.stepped(step(7, loss=99.0))
    resumed.ended()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "loss",
        "lr/head",
        "lr/image",
        "logit_scale",
        "grad_norm",
        "images_per_second",
        "waited",
        "epoch/loss",
        "epoch/images_per_second",
        "epoch/seconds",
        *(f"recall/{direction}@{k}" for direction in ("text_to_image", "image_to_text") for k in (1, 5, 10)),
    }
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(n, pytest.approx(99.0 if n == 7 else 4.0 / n)) for n in range(1, 8)]
    assert [(event.step, event.value) for event in events.Scalars("recall/text_to_image@5")] == [(4, 15.0)]
    assert events.Scalars("lr/head")[1].value == pytest.approx(5e-4)


# Weights & Biases


@pytest.mark.slow
def test_weights_and_biases_keeps_the_run_offline_and_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    folder = tmp_path / "run"
    follow(WeightsAndBiases("clip", "first", folder), last=4)
    resumed = WeightsAndBiases("clip", "first", folder)
    resumed.started(start(2))
    resumed.stepped(step(3, loss=77.125))
    resumed.ended()
    wandb.teardown()  # its other process writes a little later than finish() returns
    kept = (folder / "wandb.id").read_text()
    files = list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{kept}.wandb"] * 2
    content = b"".join(path.read_bytes() for path in files)
    for expected in (b"logit_scale", b"14.25", b"lr/head", b"recall/text_to_image@1", b"best/recall", b"77.125"):
        assert expected in content


def test_an_unknown_mode_of_weights_and_biases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'sometimes': choose online, offline, disabled"):
        WeightsAndBiases("clip", None, tmp_path, mode="sometimes")


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("matplotlib.figure", RunLog, "train"),
        ("torch.utils.tensorboard", TensorBoard, "train"),
        ("wandb", lambda folder: WeightsAndBiases("clip", None, folder), "wandb"),
    ],
    ids=["curves", "tensorboard", "wandb"],
)
def test_what_is_not_installed_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, make: object, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'clip-qdrant\[{extra}\]'"):
        make(tmp_path)
    RunLog(tmp_path, curves=False)


# All of them together


class Fragile:
    """Fails from some step on."""

    def __init__(self, error: BaseException, *, at: int) -> None:
        self.error, self.at = error, at
        self.told: list[object] = []

    def started(self, run: RunStart) -> None:
        self.told.append("started")

    def stepped(self, report: StepReport) -> None:
        if report.step >= self.at:
            raise self.error
        self.told.append(report.step)

    def epoch_ended(self, report: EpochReport) -> None:
        self.told.append("epoch")

    def ended(self) -> None:
        self.told.append("ended")


class FragileDisplay(Fragile, Display):
    pass


def test_a_display_that_fails_is_told_of_once_and_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    display = FragileDisplay(ConnectionError("no route to host"), at=3)
    log = RunLog(tmp_path, curves=False)
    with caplog.at_level(logging.WARNING):
        follow(Together([display, log]))
    assert display.told == ["started", 1, 2, "ended"]
    assert [record.message for record in caplog.records] == ["FragileDisplay failed and is dropped: the run goes on"]
    assert "no route to host" in caplog.text
    assert steps_of(tmp_path) == list(range(1, 13))


def test_the_error_of_any_other_watcher_is_raised_and_all_are_ended(tmp_path: Path) -> None:
    class Stubborn(Fragile):
        def ended(self) -> None:
            super().ended()
            raise RuntimeError("cannot end")

    before, after = Stubborn(ValueError("mine"), at=2), Fragile(ValueError(), at=100)
    together = Together([before, after])
    with pytest.raises(ValueError, match="mine"):
        follow(together)
    with pytest.raises(RuntimeError, match="cannot end"):
        together.ended()
    assert after.told == ["started", 1, "ended"]


def test_an_interrupt_is_no_failure_of_a_display() -> None:
    with pytest.raises(KeyboardInterrupt):
        follow(Together([FragileDisplay(KeyboardInterrupt(), at=2)]))


def test_watchers_that_never_started_can_be_ended(tmp_path: Path) -> None:
    displays = [LiveTable(terminal()), TensorBoard(tmp_path), WeightsAndBiases("clip", None, tmp_path)]
    Together([RunLog(tmp_path), *displays]).ended()
    assert list(tmp_path.iterdir()) == []


# What the model sees


def test_samples_show_the_pixels_themselves_above_their_captions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    path = draw_samples(tmp_path / "run", pixels, ["a red square", "two dogs\non the \x1b[31m grass", ""])
    assert path == tmp_path / "run" / "samples.png"
    with Image.open(path) as image:
        grid = np.asarray(image)
    assert grid.shape == (2 * 136, 2 * 168, 3)
    assert np.array_equal(grid[4:68, 52:116], pixels[0])
    assert np.array_equal(grid[4:68, 168 + 52 : 168 + 116], pixels[1])
    captions = grid[68:136, :168], grid[68:136, 168:], grid[136 + 68 :, :168]
    assert [int((area < 128).any(axis=-1).sum()) > 50 for area in captions] == [True, True, False]


def test_samples_are_at_most_sixty_four_and_take_captions_of_any_length_and_script(tmp_path: Path) -> None:
    captions = ["word " * 500, "W" * 3000, "ein Mädchen läuft", "一只猫", "قطة", "\ud800 half", "\x00", *["x"] * 93]
    path = draw_samples(tmp_path, np.zeros((100, 32, 32, 3), dtype=np.uint8), captions)
    with Image.open(path) as image:
        assert image.size == (8 * 168, 8 * 104)


def test_letters_that_are_no_ascii_are_not_all_the_same_box(tmp_path: Path) -> None:
    path = draw_samples(tmp_path, np.zeros((4, 160, 160, 3), dtype=np.uint8), ["ä", "ö", "Ж", "ي"])
    with Image.open(path) as image:
        below = [image.crop((x, y + 164, x + 168, y + 232)).tobytes() for y in (0, 232) for x in (0, 168)]
    assert len(set(below)) == 4


def test_samples_of_another_shape_or_count_are_refused(tmp_path: Path) -> None:
    good = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    for bad in (good.astype(np.float32), good[..., :1], good[0], good[:0]):
        with pytest.raises(ConfigError, match="they must be uint8"):
            draw_samples(tmp_path, bad, ["a"] * len(bad))
    with pytest.raises(ConfigError, match="1 captions for 2 images"):
        draw_samples(tmp_path, good, ["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write .*samples\.png"):
        draw_samples(tmp_path / "file", good, ["a", "b"])
