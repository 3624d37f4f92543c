"""What runs between the stages: nothing is lost or doubled, nothing grows without bounds, nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from fakes import FakeEmbedder, MadeSource
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant_ingestion import SourceObject, ingest
from clip_qdrant_ingestion.run.channel import Budget, Channel, Halted

MB = 1024 * 1024
_LONG = 60.0  # seconds after which threads that still wait are taken for locked up


def together(*works: Callable[[], object]) -> None:
    """Runs each in a thread of its own and waits for all. Halted ends one quietly."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Halted:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _LONG
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread for thread in threads if thread.is_alive()], "some wait for ever"
    if errors:
        raise errors[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONG
    while not condition():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.001)


def test_items_come_in_the_order_they_were_put() -> None:
    channel: Channel[int] = Channel(3)
    for number in range(3):
        assert channel.put(number)
    channel.done()
    assert channel.take(2) == [0, 1]
    assert list(channel) == [2]


def test_an_ended_channel_gives_its_rest_and_then_the_end() -> None:
    channel: Channel[int] = Channel(8, producers=2)
    channel.put(1)
    channel.done()
    channel.put(2)
    channel.done()
    assert channel.take(5) == [1, 2]
    assert channel.take(5) == []
    assert channel.take(5) == []


def test_a_full_channel_takes_no_more_until_there_is_room() -> None:
    channel: Channel[int] = Channel(2)
    assert [channel.put(number, timeout=0) for number in range(4)] == [True, True, False, False]
    assert len(channel) == 2
    channel.take(1)
    assert channel.put(5, timeout=0)
    channel.done()
    assert list(channel) == [1, 5]


def test_a_batch_larger_than_the_channel_is_filled_as_items_come() -> None:
    channel: Channel[int] = Channel(2)
    taken: list[list[int]] = []

    def put() -> None:
        for number in range(10):
            channel.put(number)
        channel.done()

    together(put, lambda: taken.extend([channel.take(8, linger=_LONG), channel.take(8, linger=_LONG)]))
    assert taken == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]


def test_a_batch_waits_for_its_first_item_and_then_only_as_long_as_it_lingers() -> None:
    channel: Channel[int] = Channel(8)
    taken: list[list[int]] = []
    first = threading.Event()

    def put() -> None:
        time.sleep(0.1)  # longer than it lingers
        channel.put(1)
        assert first.wait(_LONG)  # the first batch went on without the second item
        channel.put(2)
        channel.done()

    def take() -> None:
        taken.append(channel.take(4, linger=0.02))
        first.set()
        taken.append(channel.take(4, linger=_LONG))

    together(put, take)
    assert taken == [[1], [2]]


def test_halting_wakes_whoever_waits_and_refuses_whoever_comes_later() -> None:
    full: Channel[int] = Channel(1)
    full.put(0)
    empty: Channel[int] = Channel(1)
    reached: list[str] = []

    def expect(name: str, wait: Callable[[], object]) -> None:
        with pytest.raises(Halted):
            wait()
        reached.append(name)

    def halt() -> None:
        time.sleep(0.05)
        full.halt()
        empty.halt()

    together(
        lambda: expect("put", lambda: full.put(1)),
        lambda: expect("take", lambda: empty.take(1)),
        lambda: expect("linger", lambda: empty.take(4, linger=_LONG)),
        halt,
    )
    expect("later put", lambda: empty.put(1))
    expect("later take", lambda: full.take(1))
    assert sorted(reached) == ["later put", "later take", "linger", "put", "take"]


@settings(max_examples=40)
@given(st.data())
def test_any_producers_and_consumers_hand_on_every_item_once_and_end(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=6), label="items of each producer")
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5), label="batch of each consumer")
    bound = data.draw(st.integers(1, 6), label="bound")
    linger = data.draw(st.sampled_from([0.0, 0.001, 0.01]), label="linger")
    channel: Channel[tuple[int, int]] = Channel(bound, producers=len(counts))
    taken: list[list[list[tuple[int, int]]]] = [[] for _ in sizes]

    def produce(producer: int) -> None:
        for number in range(counts[producer]):
            channel.put((producer, number))
            assert len(channel) <= bound
        channel.done()

    def consume(consumer: int) -> None:
        while batch := channel.take(sizes[consumer], linger=linger):
            taken[consumer].append(batch)

    together(
        *(lambda producer=number: produce(producer) for number in range(len(counts))),  # type: ignore[misc]
        *(lambda consumer=number: consume(consumer) for number in range(len(sizes))),  # type: ignore[misc]
    )
    items = [item for batches in taken for batch in batches for item in batch]
    assert sorted(items) == [(producer, number) for producer, count in enumerate(counts) for number in range(count)]
    assert all(len(batch) <= size for size, batches in zip(sizes, taken, strict=True) for batch in batches)
    for batches in taken:  # what one consumer gets of one producer is in order
        for producer in range(len(counts)):
            numbers = [number for batch in batches for source, number in batch if source == producer]
            assert numbers == sorted(numbers)


@settings(max_examples=40)
@given(
    producers=st.integers(1, 5),
    consumers=st.integers(1, 5),
    bound=st.integers(1, 5),
    moment=st.floats(0, 0.01),
)
def test_halting_at_any_moment_ends_everybody(producers: int, consumers: int, bound: int, moment: float) -> None:
    channel: Channel[int] = Channel(bound, producers=producers + 1)  # one more, which never says that it is done

    def produce() -> None:
        for number in range(1_000_000):
            channel.put(number)

    def consume() -> None:
        while channel.take(3, linger=0.001):
            pass

    def halt() -> None:
        time.sleep(moment)
        channel.halt()

    together(*[produce] * producers, *[consume] * consumers, halt)


def test_a_budget_is_never_exceeded_and_everybody_gets_his_share() -> None:
    budget, chance = Budget(100), random.Random(0)
    amounts = [[chance.choice([0, 1, 30, 60, 100, 5000]) for _ in range(30)] for _ in range(6)]
    lock = threading.Lock()
    used, most, served = 0, 0, 0

    def use(mine: list[int]) -> None:
        nonlocal used, most, served
        for amount in mine:
            with budget.using(amount):
                with lock:
                    used += min(amount, 100)
                    most, served = max(most, used), served + 1
                time.sleep(0.0002)
                with lock:
                    used -= min(amount, 100)

    together(*(lambda mine=mine: use(mine) for mine in amounts))  # type: ignore[misc]
    assert served == 180
    assert 60 < most <= 100


def test_a_use_larger_than_the_budget_has_it_all_to_itself() -> None:
    budget = Budget(10)
    events: list[str] = []

    def large() -> None:
        assert budget.acquire(1000) == 10
        events.append("large")
        budget.release(10)

    small = budget.acquire(1)
    thread = threading.Thread(target=large, daemon=True)
    thread.start()
    until(lambda: len(budget._waiting) == 1)
    events.append("small ends")
    budget.release(small)
    thread.join(_LONG)
    assert events == ["small ends", "large"]
    assert budget.acquire(10) == 10  # nothing of it was kept


def test_a_large_use_is_not_passed_by_the_small_ones_that_come_after_it() -> None:
    budget = Budget(10)
    order: list[str] = []

    def use(name: str, amount: int) -> None:
        with budget.using(amount):
            order.append(name)

    held = budget.acquire(5)
    threads = []
    for name, amount in (("large", 8), ("small", 2), ("smaller", 1)):  # the small ones would fit at once
        threads.append(threading.Thread(target=use, args=(name, amount), daemon=True))
        threads[-1].start()
        until(lambda: len(budget._waiting) == len(threads))
    budget.release(held)
    for thread in threads:
        thread.join(_LONG)
    assert order[0] == "large"
    assert sorted(order) == ["large", "small", "smaller"]


def test_halting_a_budget_wakes_whoever_waits_for_it() -> None:
    budget = Budget(10)
    budget.acquire(10)

    def wait() -> None:
        with pytest.raises(Halted):
            budget.acquire(1)

    def halt() -> None:
        until(lambda: len(budget._waiting) == 2)
        budget.halt()

    together(wait, wait, halt)
    with pytest.raises(Halted):
        budget.acquire(0)


class _Slow(FakeEmbedder):
    """Takes a while for each image, and tells when it is decoded."""

    def __init__(self, decoded: Callable[[], None], seconds: float) -> None:
        super().__init__()
        self._decoded, self._seconds = decoded, seconds

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        time.sleep(self._seconds)
        self._decoded()
        return super().preprocess(rgb)


def test_what_is_read_and_not_decoded_yet_is_bounded_by_its_bytes(memory_client: QdrantBase) -> None:
    lock = threading.Lock()
    reading, most = 0, 0

    def started(item: SourceObject, attempt: int) -> None:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)

    def decoded() -> None:
        nonlocal reading
        with lock:
            reading -= 1

    source = MadeSource(200, size=8 * MB, readers=32, before_read=started)
    collection = ImageCollection("photos", _Slow(decoded, 0.001), memory_client)
    report = ingest(source, collection, workers=2)
    assert report.added == 200
    assert 16 * MB < most * 8 * MB <= 128 * MB


def test_images_larger_than_all_the_bytes_there_may_be_are_read_one_at_a_time(memory_client: QdrantBase) -> None:
    lock = threading.Lock()
    reading, most = 0, 0

    def started(item: SourceObject, attempt: int) -> None:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)

    def decoded() -> None:
        nonlocal reading
        with lock:
            reading -= 1

    source = MadeSource(12, size=200 * MB, before_read=started)
    report = ingest(source, ImageCollection("photos", _Slow(decoded, 0.005), memory_client))
    assert (report.added, most) == (12, 1)


def test_a_failure_ends_readers_that_wait_for_bytes_of_what_nobody_will_decode(memory_client: QdrantBase) -> None:
    class Failing(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            # Four are with the embedders, four wait for them, one in vain, and 128 MB wait to be decoded.
            until(lambda: source.reads.total() >= 4 + 4 + 1 + 16)
            time.sleep(0.1)
            raise RuntimeError("the model is gone")

    source = MadeSource(100, size=8 * MB, readers=20)
    collection = ImageCollection("photos", Failing(), memory_client)
    with pytest.raises(RuntimeError, match="the model is gone"):
        ingest(source, collection, batch_size=2, workers=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]


def test_what_turns_out_to_be_larger_is_held_at_once_and_keeps_others_waiting() -> None:
    budget = Budget(100)
    held = budget.correct(budget.acquire(40), 150)
    assert held == 150
    waiting = threading.Thread(target=lambda: budget.release(budget.acquire(10)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    budget.release(held)
    waiting.join(10)
    assert not waiting.is_alive()
