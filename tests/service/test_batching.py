"""What many threads and coroutines want embedded at once becomes few batches, and each gets its own rows or error."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image

from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.embedder_protocol import check_embedder
from clip_qdrant.errors import ConfigError, DeadlineExceeded, ImageTooLarge, Overloaded, QueryError
from clip_qdrant.images.load import Limits
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.service.batching.ahead import embed_ahead
from clip_qdrant.service.batching.embedder import BatchingEmbedder
from clip_qdrant.service.batching.lengths import group_by_length
from clip_qdrant.service.batching.options import BatchingOptions
from clip_qdrant.service.batching.vector_cache import VectorCache
from clip_qdrant.service.http.lifetime import _CURRENT, Lifetime


class HeldEmbedder(FakeEmbedder):
    """Embeds nothing until it is let go; `started` is set once it is asked. Refuses the text "bad"."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.go = threading.Event()

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        self.started.set()
        assert self.go.wait(20)
        wanted = list(texts)
        if "bad" in wanted:
            raise ConfigError("the text 'bad' is refused")
        return super().embed_texts(wanted)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.started.set()
        assert self.go.wait(20)
        return super().embed_pixels(pixels)


@contextlib.contextmanager
def batching(embedder: FakeEmbedder, options: BatchingOptions | None = None) -> Iterator[BatchingEmbedder]:
    made = BatchingEmbedder(embedder, options)
    try:
        yield made
    finally:
        if isinstance(embedder, HeldEmbedder):
            embedder.go.set()
        made.close()


@pytest.fixture
def held() -> Iterator[tuple[HeldEmbedder, BatchingEmbedder]]:
    """An embedder whose first batch, the text "first", is under way."""
    embedder = HeldEmbedder()
    with batching(embedder, BatchingOptions(most_texts=100, most_images=40, cached_texts=50)) as made:
        yield embedder, made


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def hold(held: tuple[HeldEmbedder, BatchingEmbedder], pool: ThreadPoolExecutor) -> None:
    embedder, made = held
    pool.submit(made.embed_texts, ["first"])
    assert embedder.started.wait(20)


def test_it_is_an_embedder_and_gives_the_rows_of_the_one_below() -> None:
    plain, texts = FakeEmbedder(), ["red", "blue dog", "red"]
    images = [solid_image("red"), solid_image("blue")]
    with batching(FakeEmbedder()) as made:
        check_embedder(made)
        assert (made.dim, made.fingerprint, made.needed_side) == (plain.dim, plain.fingerprint, plain.image_size)

        np.testing.assert_array_equal(made.embed_texts(texts), plain.embed_texts(texts))
        np.testing.assert_array_equal(made.embed_texts("red"), plain.embed_texts(["red"]))
        np.testing.assert_array_equal(made.embed_images(images), plain.embed_images(images))
        np.testing.assert_array_equal(made.embed_images(iter(images)), plain.embed_images(images))
        assert made.embed_texts([]).shape == made.embed_images([]).shape == (0, plain.dim)
        assert made.embed_pixels(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, plain.dim)


def test_texts_that_wait_while_a_batch_runs_are_the_next_batch(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    embedder, made = held
    with ThreadPoolExecutor(30) as pool:
        hold(held, pool)
        results = [pool.submit(made.embed_texts, [f"text {number}"]) for number in range(20)]
        eventually(lambda: made.figures.texts_waiting == 20)
        embedder.go.set()
        rows = [result.result()[0] for result in results]

    assert embedder.text_calls == [1, 20]
    np.testing.assert_array_equal(rows, FakeEmbedder().embed_texts([f"text {number}" for number in range(20)]))


def test_coroutines_share_batches_too_and_equal_texts_are_embedded_once() -> None:
    embedder = FakeEmbedder()

    async def use(made: BatchingEmbedder) -> list[np.ndarray]:
        return await asyncio.gather(*[made.aembed_texts([f"text {number % 8}", "red"]) for number in range(40)])

    with batching(embedder, BatchingOptions(gathering=0.05)) as made:
        rows = asyncio.run(use(made))
        figures = made.figures

    assert sum(embedder.text_calls) < 40
    assert figures.texts == 80 - figures.cache_hits
    np.testing.assert_array_equal([row[1] for row in rows], np.repeat(FakeEmbedder().embed_texts(["red"]), 40, axis=0))


def test_the_batches_of_one_large_request_leave_room_for_others(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    embedder, made = held
    with ThreadPoolExecutor(4) as pool:
        hold(held, pool)
        large = pool.submit(made.embed_texts, [f"large {number}" for number in range(99)])
        eventually(lambda: made.figures.texts_waiting == 99)
        small = pool.submit(made.embed_texts, ["small"])
        eventually(lambda: made.figures.texts_waiting == 100)
        embedder.go.set()
        small.result()
        large.result()

    assert embedder.text_calls == [1, 64, 36]  # 16 of the large one, the small one, 47 more; then the rest


def test_one_bad_text_fails_its_own_request_alone(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    embedder, made = held
    with ThreadPoolExecutor(4) as pool:
        hold(held, pool)
        good, bad = pool.submit(made.embed_texts, ["good"]), pool.submit(made.embed_texts, ["bad"])
        eventually(lambda: made.figures.texts_waiting == 2)
        embedder.go.set()

        assert good.result().shape == (1, made.dim)
        with pytest.raises(ConfigError, match="the text 'bad' is refused"):
            bad.result()
        with pytest.raises(ConfigError, match="must be a str, not int"):
            made.embed_texts([3])  # type: ignore[list-item]  # what it refuses


def test_an_embedder_that_makes_too_few_rows_is_told_so_and_the_next_request_is_answered() -> None:
    embedder = FakeEmbedder()
    embed = embedder.embed_pixels
    embedder.embed_pixels = lambda pixels: embed(pixels)[:1]  # type: ignore[method-assign]
    with batching(embedder) as made:
        with pytest.raises(ConfigError, match=r"the embedder made \(1, 16\) of 2 images, not \(n, 16\)"):
            made.embed_pixels(np.zeros((2, 16, 16, 3), np.uint8))
        assert made.embed_pixels(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 16)


def test_a_full_queue_is_refused_with_a_time_to_come_back(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    _embedder, made = held
    with ThreadPoolExecutor(4) as pool:
        hold(held, pool)
        pool.submit(made.embed_texts, [f"text {number}" for number in range(90)])
        eventually(lambda: made.figures.texts_waiting == 90)

        with pytest.raises(Overloaded, match="90 texts wait for the encoder, and 100 may: try again in 1 s") as told:
            made.embed_texts([f"more {number}" for number in range(11)])
        held[0].go.set()

    assert told.value.retry_after == 1


def test_too_many_images_to_be_decoded_are_refused() -> None:
    embedder, go = FakeEmbedder(), threading.Event()
    embedder.preprocess = lambda rgb: go.wait(20) and FakeEmbedder().preprocess(rgb)  # type: ignore[method-assign]

    async def use(made: BatchingEmbedder) -> None:
        waiting = [asyncio.ensure_future(made.adecode(solid_image("red"))) for _ in range(3)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(Overloaded, match="3 images wait to be decoded, and no more may"):
                await made.adecode(solid_image("red"))
        finally:
            go.set()
        await asyncio.gather(*waiting)
        await made.adecode(solid_image("red"))

    with batching(embedder, BatchingOptions(most_images=3, decoders=1)) as made:
        asyncio.run(use(made))


def test_a_request_larger_than_the_queue_is_served_when_nothing_waits() -> None:
    with batching(FakeEmbedder(), BatchingOptions(most_texts=5)) as made:
        assert made.embed_texts([str(number) for number in range(12)]).shape == (12, made.dim)


def test_a_cancelled_request_leaves_the_queue(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    embedder, made = held

    async def give_up() -> None:
        task = asyncio.ensure_future(made.aembed_texts(["given up", "and this"]))
        while made.figures.texts_waiting != 2:
            await asyncio.sleep(0.002)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert made.figures.texts_waiting == 0

    with ThreadPoolExecutor(1) as pool:
        hold(held, pool)
        asyncio.run(give_up())
        embedder.go.set()

    assert made.embed_texts(["next"]).shape == (1, made.dim)
    assert embedder.text_calls == [1, 1]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_thread_whose_time_runs_out_leaves_the_queue(
    held: tuple[HeldEmbedder, BatchingEmbedder], seconds: float
) -> None:
    embedder, made = held
    with ThreadPoolExecutor(1) as pool:
        hold(held, pool)
        with living(Lifetime(seconds)), pytest.raises(DeadlineExceeded, match="the time of the request ran out"):
            made.embed_texts(["late"])
        assert made.figures.texts_waiting == 0
        embedder.go.set()

    assert embedder.text_calls == [1]


def test_what_waits_for_a_request_that_has_ended_is_not_embedded(held: tuple[HeldEmbedder, BatchingEmbedder]) -> None:
    embedder, made = held
    lifetime = Lifetime(60)

    def ask() -> None:
        with living(lifetime):
            made.embed_texts(["abandoned"])

    with ThreadPoolExecutor(2) as pool:
        hold(held, pool)
        abandoned = pool.submit(ask)
        eventually(lambda: made.figures.texts_waiting == 1)
        lifetime.ended = True
        embedder.go.set()
        with pytest.raises(DeadlineExceeded, match="ran out while its texts waited for the encoder"):
            abandoned.result()

    assert embedder.text_calls == [1]


@contextlib.contextmanager
def living(lifetime: Lifetime) -> Iterator[None]:
    """As in a request that lives so long."""
    token = _CURRENT.set(lifetime)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    others = {*threading.enumerate()}
    embedder = HeldEmbedder()
    with batching(embedder) as made, ThreadPoolExecutor(4) as pool:
        hold((embedder, made), pool)
        waiting = pool.submit(made.embed_texts, ["waiting"])
        eventually(lambda: made.figures.texts_waiting == 1)
        closing = pool.submit(made.close)
        embedder.go.set()
        closing.result()

        assert waiting.result().shape == (1, made.dim)
    for refused in (lambda: made.embed_texts(["new"]), lambda: made.embed_images([solid_image("red")])):
        with pytest.raises(Overloaded, match="the service is ending"):
            refused()
    assert not {*threading.enumerate()} - others


def test_texts_of_like_length_are_embedded_together() -> None:
    texts = ["a" * 500, "b", "c" * 60, "d" * 300, "e" * 70, "f" * 2000]

    assert group_by_length(texts) == [[1, 2], [4], [3, 0], [5]]
    assert group_by_length([]) == []


def test_the_vectors_of_texts_are_kept_and_those_not_used_for_longest_go_first() -> None:
    embedder = FakeEmbedder()
    with batching(embedder, BatchingOptions(cached_texts=2)) as made:
        for text in ("one", "two", "one", "three", "one", "two"):
            made.embed_texts([text])[:] = 0  # a caller's own copy
        expected = FakeEmbedder().embed_texts(["one"])

        np.testing.assert_array_equal(made.embed_texts(["one"]), expected)
        assert (made.figures.cache_hits, made.figures.cache_misses) == (3, 4)
    assert embedder.text_calls == [1, 1, 1, 1]


def test_a_search_finds_the_texts_that_were_embedded_ahead() -> None:
    embedder = FakeEmbedder()
    embedder.prompts = Prompts(("a photo of {}", "a drawing of {}"))  # type: ignore[attr-defined]  # it may have some
    with batching(embedder) as made:
        asyncio.run(embed_ahead(["a red dog"], made))
        rows = embed_query_texts(["a red dog"], made)
        with pytest.raises(QueryError, match="the query text ' ' is empty"):
            asyncio.run(embed_ahead([" "], made))
        asyncio.run(embed_ahead(["x" * 2000], made))  # which would not be kept
    asyncio.run(embed_ahead(["anything"], embedder))
    with batching(embedder, BatchingOptions(cached_texts=0)) as made:
        asyncio.run(embed_ahead(["anything"], made))

    assert embedder.text_calls == [2]
    np.testing.assert_allclose(rows, embed_query_texts(["a red dog"], embedder), atol=1e-6)


def test_long_texts_are_not_kept() -> None:
    cache = VectorCache(10)
    cache.keep(["short", "l" * 5000], np.ones((2, 4), np.float32))

    assert list(cache.find(["short", "l" * 5000])) == ["short"]


def test_images_of_many_requests_are_decoded_within_the_limits_and_embedded_together() -> None:
    embedder = HeldEmbedder()
    made = BatchingEmbedder(embedder, BatchingOptions(images_in_batch=8), limits=Limits(max_pixels=1000))
    try:
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(made.embed_images, [solid_image("red")])
            assert embedder.started.wait(20)
            results = [pool.submit(made.embed_images, [solid_image("blue")]) for _ in range(10)]
            eventually(lambda: made.figures.images_waiting == 10)
            embedder.go.set()
            rows = [result.result()[0] for result in (first, *results)]
        with pytest.raises(ImageTooLarge, match="image 1 has 60 x 40 pixels"):
            made.embed_images([solid_image("red"), solid_image("red", (60, 40))])
    finally:
        made.close()

    assert embedder.image_calls == [1, 8, 2]
    np.testing.assert_array_equal(rows[5], FakeEmbedder().embed_images([solid_image("blue")])[0])


def test_an_image_tells_its_size_and_its_pixels_can_be_embedded_later() -> None:
    async def use(made: BatchingEmbedder) -> np.ndarray:
        decoded = await made.adecode(solid_image("green", (30, 20)))
        assert (decoded.width, decoded.height) == (30, 20)
        assert (await made.aembed_pixels([])).shape == (0, made.dim)
        return await made.aembed_pixels([decoded.pixels])

    with batching(FakeEmbedder()) as made:
        rows = asyncio.run(use(made))
        made.warm_up()

    np.testing.assert_array_equal(rows, FakeEmbedder().embed_images([solid_image("green", (30, 20))]))


@pytest.mark.parametrize(
    "wrong", [{"gathering": 2.0}, {"most_texts": 0}, {"cached_texts": -1}, {"decoders": 0}, {"images_in_batch": 1.5}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is "):
        BatchingOptions(**wrong)  # type: ignore[arg-type]  # what it refuses
