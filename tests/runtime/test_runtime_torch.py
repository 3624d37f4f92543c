"""Images through torch's buffers and streams come out as they do without, whatever the batch and whoever else asks."""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import SIZE, pictures, tiny_checkpoint
from torch import nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import PixelNorm
from clip_qdrant.runtime.torch import Stream, TorchRuntime, missing_compiler, new_stream

CHECKPOINT = tiny_checkpoint()
NO_COMPILER = missing_compiler(torch.device("cpu"))
PIXELS = np.stack([np.asarray(picture) for picture in pictures(37, size=(SIZE, SIZE))])


class LateStream:
    """Does its work on a thread of its own, later, as a GPU does: buffers touched too early show in the results."""

    def __init__(self, device: torch.device) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._queued: list[Future[None]] = []

    def run(self, work: Callable[[], None]) -> None:
        self._queued.append(self._pool.submit(self._late, work))

    def wait(self) -> None:
        while self._queued:
            self._queued.pop(0).result()

    @staticmethod
    def _late(work: Callable[[], None]) -> None:
        time.sleep(0.01)
        work()


class FailingThrice(LateStream):
    """Queues its work and then fails, as a GPU does that runs out of memory in the middle of a network."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._failures = 3

    def run(self, work: Callable[[], None]) -> None:
        super().run(work)
        if self._failures:
            self._failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")


class MeanColour(nn.Module):
    """The least of a network, quickly compiled."""

    dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = PixelNorm(CHECKPOINT.preprocessing), nn.Linear(3, self.dim)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.linear(self.norm(pixels).mean((2, 3))), dim=-1)


def plain(checkpoint: Checkpoint) -> np.ndarray:
    """The rows of the network itself, for all pixels."""
    with torch.inference_mode():
        return np.asarray(checkpoint.model.encode_image(torch.from_numpy(PIXELS)).numpy())


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return plain(CHECKPOINT)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 37])
def test_rows_are_those_of_the_network_for_any_number_of_images(n: int, expected: np.ndarray) -> None:
    rows = TorchRuntime(CHECKPOINT, batch_size=8).embed_pixels(PIXELS[:n])
    assert rows.dtype == np.float32
    assert np.allclose(rows, expected[:n], atol=1e-5)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_no_images_are_no_rows() -> None:
    assert TorchRuntime(CHECKPOINT).embed_pixels(PIXELS[:0]).shape == (0, 32)


def test_pixels_may_be_read_only_and_in_any_order_of_memory(expected: np.ndarray) -> None:
    reversed_pixels = PIXELS[::-1]
    reversed_pixels.flags.writeable = False
    rows = TorchRuntime(CHECKPOINT, batch_size=8).embed_pixels(reversed_pixels)
    assert np.allclose(rows, expected[::-1], atol=1e-5)


@pytest.mark.parametrize("stream", [new_stream, LateStream])
def test_threads_get_their_own_rows(stream: Callable[[torch.device], Stream], expected: np.ndarray) -> None:
    runtime = TorchRuntime(CHECKPOINT, batch_size=4, new_stream=stream)
    parts = [slice(start, start + 1 + start % 6) for start in range(30)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda part: runtime.embed_pixels(PIXELS[part]), parts))
    for part, rows in zip(parts, results, strict=True):
        assert np.allclose(rows, expected[part], atol=1e-5)


def test_rows_already_returned_stay_as_they_are(expected: np.ndarray) -> None:
    runtime = TorchRuntime(CHECKPOINT, batch_size=8, new_stream=LateStream)
    first = runtime.embed_pixels(PIXELS[:8])
    runtime.embed_pixels(PIXELS[8:16])
    assert np.allclose(first, expected[:8], atol=1e-5)


def test_the_caller_may_reuse_its_pixels(expected: np.ndarray) -> None:
    runtime, pixels = TorchRuntime(CHECKPOINT, batch_size=8, new_stream=LateStream), PIXELS[:8].copy()
    first = runtime.embed_pixels(pixels)
    pixels[:] = PIXELS[8:16]
    assert np.allclose(first, expected[:8], atol=1e-5)
    assert np.allclose(runtime.embed_pixels(pixels), expected[8:16], atol=1e-5)


def test_after_failures_the_next_batch_is_right(expected: np.ndarray) -> None:
    runtime = TorchRuntime(CHECKPOINT, batch_size=8, new_stream=FailingThrice)
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError):
            runtime.embed_pixels(PIXELS[:8])
    assert np.allclose(runtime.embed_pixels(PIXELS[8:16]), expected[8:16], atol=1e-5)


def test_two_batches_are_on_their_way_at_once_and_their_buffers_are_used_again() -> None:
    made: list[LateStream] = []

    def counted(device: torch.device) -> LateStream:
        made.append(LateStream(device))
        return made[-1]

    runtime = TorchRuntime(CHECKPOINT, batch_size=4, new_stream=counted)
    for start in range(0, 16, 4):
        runtime.embed_pixels(PIXELS[start : start + 4])
    assert len(made) == 1
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(runtime.embed_pixels, [PIXELS[:4]] * 12))
    assert len(made) == 2


def test_texts_are_embedded_while_images_are(expected: np.ndarray) -> None:
    runtime = TorchRuntime(CHECKPOINT, batch_size=4, new_stream=LateStream)
    ids, mask = np.array([[2, 4, 3], [2, 5, 3]]), np.ones((2, 3), dtype=np.int64)
    alone = runtime.embed_tokens(ids, mask)
    with ThreadPoolExecutor(4) as pool:
        images = [pool.submit(runtime.embed_pixels, PIXELS[:9]) for _ in range(4)]
        texts = [pool.submit(runtime.embed_tokens, ids, mask) for _ in range(8)]
    assert all(np.allclose(text.result(), alone, atol=1e-6) for text in texts)
    assert all(np.allclose(image.result(), expected[:9], atol=1e-5) for image in images)


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_COMPILER), reason=f"torch.compile finds no {NO_COMPILER}")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_compiled_it_computes_the_same_and_is_compiled_once() -> None:
    checkpoint = replace(CHECKPOINT, model=MeanColour())
    runtime, rows = TorchRuntime(checkpoint, batch_size=8, compile=True), plain(checkpoint)
    assert np.allclose(runtime.embed_pixels(PIXELS[:3]), rows[:3], atol=1e-5)
    with torch.compiler.set_stance("fail_on_recompile"):
        for n in (1, 8, 9, 37):
            assert np.allclose(runtime.embed_pixels(PIXELS[:n]), rows[:n], atol=1e-5)
        with ThreadPoolExecutor(2) as pool:
            for part in pool.map(runtime.embed_pixels, [PIXELS[:5]] * 4):
                assert np.allclose(part, rows[:5], atol=1e-5)


def test_without_a_compiler_compiling_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        ConfigError, match=r"finds no C\+\+ compiler: (g\+\+|clang\+\+|cl) cannot be run .*CXX.* set compile"
    ):
        TorchRuntime(CHECKPOINT, compile=True)
    assert missing_compiler(torch.device("cuda")).startswith("C compiler: gcc and clang cannot be run")
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(ConfigError, match="icpx cannot be run"):
        TorchRuntime(CHECKPOINT, compile=True)
    TorchRuntime(CHECKPOINT)


def test_without_the_headers_of_python_compiling_is_refused_by_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"finds no headers of Python: .*Python\.h is missing .*python3-dev"):
        TorchRuntime(CHECKPOINT, compile=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda device")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_rows_are_those_of_the_cpu(compiled: bool, expected: np.ndarray) -> None:
    if compiled and (missing := missing_compiler(torch.device("cuda"))):
        pytest.skip(f"torch.compile finds no {missing}")
    runtime = TorchRuntime(CHECKPOINT, device="cuda", batch_size=8, compile=compiled)
    sizes = range(1, len(PIXELS) + 1)
    with ThreadPoolExecutor(4) as pool:
        for n, rows in zip(sizes, pool.map(runtime.embed_pixels, (PIXELS[:n] for n in sizes)), strict=True):
            assert (rows * expected[:n]).sum(axis=1).min() > 0.99  # bfloat16
