"""Near-duplicates by perceptual hash: the first image near another, against comparing all with all."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import PEAK_MEMORY
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.perceptual_hash import perceptual_hash
from clip_qdrant_ingestion.duplicates.index import DuplicateIndex

HALF = 0x0F1E2D3C4B5A6978  # 32 bits set


def text(value: int) -> str:
    return f"{value:016x}"


def flipped(value: int, *bits: int) -> str:
    for bit in bits:
        value ^= 1 << bit
    return text(value)


def structured(value: int) -> bool:
    return 16 <= value.bit_count() <= 48


@st.composite
def near_one_another(draw: st.DrawFn) -> list[int]:
    """Hashes of a few pictures, and of others that differ from them in up to ten bits, some without structure."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    hashes = []
    for _ in range(draw(st.integers(1, 40))):
        value = draw(st.sampled_from(centres))
        for bit in draw(st.sets(st.integers(0, 63), max_size=10)):
            value ^= 1 << bit
        hashes.append(value)
    return hashes


@given(hashes=near_one_another(), distance=st.integers(0, 16), loaded=st.integers(0, 40))
def test_it_finds_what_comparing_all_of_them_finds(hashes: list[int], distance: int, loaded: int) -> None:
    index = DuplicateIndex(distance)
    index.load((f"uri {number}", text(value)) for number, value in enumerate(hashes[:loaded]))
    firsts = [(number, value) for number, value in enumerate(hashes[:loaded]) if structured(value)]

    for number, value in enumerate(hashes[loaded:], start=loaded):
        near = [other for other, known in firsts if (known ^ value).bit_count() <= distance]
        expected = f"uri {near[0]}" if near and structured(value) else None
        assert index.find_first(f"uri {number}", text(value)) == expected
        if expected is None and structured(value):
            firsts.append((number, value))


@given(hashes=near_one_another(), gone=st.sets(st.integers(0, 39)))
def test_what_is_forgotten_is_found_no_more(hashes: list[int], gone: set[int]) -> None:
    index = DuplicateIndex()
    index.load((f"uri {number}", text(value)) for number, value in enumerate(hashes))
    for number in gone:
        index.forget(f"uri {number}")
    left = [(n, value) for n, value in enumerate(hashes) if n not in gone and structured(value)]

    for value in hashes:
        near = [number for number, known in left if (known ^ value).bit_count() <= 4]
        if near and structured(value):
            assert index.find_first("another", text(value)) == f"uri {near[0]}"


def test_four_bits_are_near_and_five_are_not() -> None:
    index = DuplicateIndex()
    index.load([("a", text(HALF))])

    assert index.find_first("b", flipped(HALF, 0, 13, 31, 63)) == "a"
    assert index.find_first("c", flipped(HALF, 0, 13, 26, 39, 52)) is None


def test_a_duplicate_is_not_remembered_so_that_chains_do_not_grow() -> None:
    index = DuplicateIndex()
    assert index.find_first("a", text(HALF)) is None
    assert index.find_first("b", flipped(HALF, 1, 2, 3)) == "a"

    assert index.find_first("c", flipped(HALF, 1, 2, 3, 4, 5)) is None  # near b only


def test_the_first_asked_for_again_is_no_duplicate_of_those_that_came_after_it() -> None:
    index = DuplicateIndex()
    index.load([("a", text(HALF)), ("b", flipped(HALF, 1))])

    assert index.find_first("a", text(HALF)) is None
    assert index.find_first("a", flipped(HALF, 2)) is None  # saved again, its hash a bit off
    assert index.find_first("b", flipped(HALF, 1)) == "a"


def test_another_picture_under_a_known_uri_counts_as_the_last_to_come() -> None:
    index = DuplicateIndex()
    other = HALF ^ 0xFFFF
    index.load([("a", text(HALF)), ("b", text(other))])

    assert index.find_first("a", text(other)) == "b"
    assert index.find_first("c", text(HALF)) is None  # the picture that a was is gone


def test_loading_a_uri_again_replaces_its_hash() -> None:
    index = DuplicateIndex()
    index.load([("a", text(HALF)), ("a", text(HALF ^ 0xFFFF))])

    assert index.find_first("b", text(HALF ^ 0xFFFF)) == "a"
    assert index.find_first("c", text(HALF)) is None


@pytest.mark.parametrize("phash", [perceptual_hash(Image.new("RGB", (64, 64), colour)) for colour in ("red", "white")])
def test_plain_colours_are_near_nothing(phash: str) -> None:
    index = DuplicateIndex()

    assert index.find_first("a", phash) is None
    assert index.find_first("b", phash) is None


@pytest.mark.parametrize("phash", ["", "0x0f1e2d3c4b5a69", "0f1e2d3c4b5a69780", "not a hash", "0f1e_2d3c_4b5a_69"])
def test_text_that_is_no_hash_is_near_nothing(phash: str) -> None:
    index = DuplicateIndex()
    index.load([("a", phash)])

    assert index.find_first("b", phash) is None


def test_a_picture_saved_smaller_is_near_the_original() -> None:
    waves = np.sin(np.arange(256)[:, None] / 31) * np.cos(np.arange(256)[None, :] / 17)
    picture = Image.fromarray(((waves + 1) * 127).astype(np.uint8)).convert("RGB")
    index = DuplicateIndex()
    index.find_first("large", perceptual_hash(picture))

    assert index.find_first("small", perceptual_hash(picture.resize((100, 100)))) == "large"
    assert index.find_first("upside down", perceptual_hash(picture.rotate(90))) is None


def test_uris_of_any_text_come_back_as_they_were() -> None:
    index = DuplicateIndex(distance=0)
    uris = ["", "a\nb\0c", "s3://bucket/ünï 🖼", *(f"https://example.org/{number}" for number in range(200))]
    hashes = [text(HALF ^ (number << 8)) for number in range(len(uris))]
    index.load(zip(uris, hashes, strict=True))

    assert [index.find_first("new", phash) for phash in hashes] == uris


def test_of_equal_images_in_many_threads_exactly_one_is_the_first() -> None:
    index = DuplicateIndex()
    together = threading.Barrier(8)
    found: list[list[str | None]] = [[] for _ in range(8)]

    def ask(worker: int) -> None:
        together.wait()
        found[worker].extend(
            index.find_first(f"{worker}/{number}", text(HALF ^ (number << 40))) for number in range(999)
        )

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    alone = DuplicateIndex()
    firsts = sum(alone.find_first(str(number), text(HALF ^ (number << 40))) is None for number in range(999))
    equal = [[answers[number] for answers in found] for number in range(999)]
    assert sum(answers.count(None) for answers in equal) >= firsts  # another order may have other firsts
    assert all(answers.count(None) <= 1 for answers in equal)


@pytest.mark.parametrize("distance", [-1, 17])
def test_a_distance_that_cannot_be_is_refused(distance: int) -> None:
    with pytest.raises(ConfigError, match=f"is {distance}: it must be a number of bits from 0 to 16"):
        DuplicateIndex(distance)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is asked for in the way of Linux")
def test_a_hundred_thousand_images_take_under_15_megabytes() -> None:
    code = (
        f"{PEAK_MEMORY}\n"
        "import random\n"
        "from clip_qdrant_ingestion.duplicates.index import DuplicateIndex\n"
        "numbers = random.Random(0)\n"
        "def pairs(count):\n"
        "    for number in range(count):\n"
        "        yield f's3://bucket/of/photos/{number // 1000:04d}/picture-{number:09d}.jpg', "
        "f'{numbers.getrandbits(64):016x}'\n"
        "DuplicateIndex().load(pairs(100))\n"
        "before = peak_memory()\n"
        "index = DuplicateIndex()\n"
        "index.load(pairs(100_000))\n"
        "print((peak_memory() - before) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert float(done.stdout) < 15  # a million: 107; the lists by value of a band do not grow
