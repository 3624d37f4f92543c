"""Decoded images are kept up to a limit, in memory or in a file, and come back as they would be decoded anew."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import pictures

from clip_qdrant.errors import ConfigError, NotAnImage, TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant_training.inputs import pixel_cache as pixels
from clip_qdrant_training.inputs.pixel_cache import PixelCache

SIZES = [(80, 70), (20, 30), (200, 100), (31, 400), (33, 33), (5, 500)]
ROOM = 1 << 30

Make = Callable[..., PixelCache]


class Photos:
    """Images of many sizes, and how often each was decoded."""

    def __init__(self) -> None:
        self.images = [pictures(1, seed=seed, size=size)[0] for seed, size in enumerate(SIZES)]
        self.decoded: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Image.Image:
        with self._lock:
            self.decoded[number] += 1
        return self.images[number].copy()


@pytest.fixture
def photos() -> Photos:
    return Photos()


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes caches of one kind, and closes them."""
    made: list[PixelCache] = []

    def cache(load: Callable[[int], Image.Image], count: int = len(SIZES), **options: int) -> PixelCache:
        folder = tmp_path / "scratch" / "run" if request.param == "disk" else None
        made.append(PixelCache(load, count, folder=folder, **{"size": 32, "limit_bytes": ROOM, **options}))
        return made[-1]

    yield cache
    for each in made:
        each.close()


def same(left: Image.Image, right: Image.Image) -> bool:
    return left.size == right.size and left.mode == right.mode and left.tobytes() == right.tobytes()


def test_each_image_is_decoded_once_and_comes_back_the_same(make: Make, photos: Photos) -> None:
    cache, anew = make(photos), make(photos.images.__getitem__, limit_bytes=0)
    order = [3, 0, 5, 1, 2, 4]
    for _ in range(3):
        for number in order:
            assert same(cache[number], anew[number])
        order.reverse()
    assert photos.decoded == dict.fromkeys(range(6), 1)
    assert (cache.hits, cache.misses) == (12, 6)
    assert (anew.hits, anew.misses, anew.bytes) == (0, 18, 0)
    assert cache.bytes == sum(3 * image.width * image.height for image in anew)


def test_large_images_are_reduced_to_the_short_side_and_small_ones_are_not(make: Make, photos: Photos) -> None:
    cache = make(photos)
    for _ in range(2):
        assert [image.size for image in cache] == [(37, 32), (20, 30), (64, 32), (31, 400), (32, 32), (5, 500)]
    assert same(cache[1], photos.images[1])
    expected = photos.images[2].resize((64, 32), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(cache[2]).astype(int) - np.asarray(expected)).max() <= 1


def test_images_of_other_modes_come_back_as_rgb(make: Make) -> None:
    cache = make(lambda number: Image.new("L", (40, 40), 90), 1)
    assert same(cache[0], cache[0])
    assert cache[0].mode == "RGB" and cache[0].getpixel((3, 3)) == (90, 90, 90)


def test_what_one_reader_draws_on_an_image_the_next_does_not_see(make: Make, photos: Photos) -> None:
    cache = make(photos)
    clean = cache[0].copy()
    for _ in range(2):
        cache[0].paste((0, 0, 0), (0, 0, 30, 30))
        assert same(cache[0], clean)


def test_beyond_the_limit_images_are_decoded_each_time_and_none_is_thrown_out(make: Make, photos: Photos) -> None:
    limit = 3 * (37 * 32 + 20 * 30 + 64 * 32)
    cache = make(photos, limit_bytes=limit)
    for _ in range(3):
        for number in (0, 1, 3, 2, 4):  # 3 does not fit behind 0 and 1, but 2 does
            assert same(cache[number], make(photos.images.__getitem__)[number])
    assert photos.decoded == {0: 1, 1: 1, 2: 1, 3: 3, 4: 3}
    assert cache.bytes == limit
    assert (cache.hits, cache.misses) == (6, 9)


def test_a_limit_one_byte_short_is_kept(make: Make, photos: Photos) -> None:
    cache = make(photos, limit_bytes=3 * 37 * 32 - 1)
    assert same(cache[0], cache[0])
    assert cache.bytes == 0 and photos.decoded[0] == 2


def test_threads_decode_at_the_same_time(make: Make, photos: Photos) -> None:
    together = threading.Barrier(4, timeout=10)

    def slow(number: int) -> Image.Image:
        together.wait()  # breaks, and so fails, unless four decode at once
        return photos(number)

    cache = make(slow)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(cache.__getitem__, range(4)))) == 4
        assert [image.size for image in pool.map(cache.__getitem__, range(4))] == [cache[i].size for i in range(4)]


def test_threads_that_want_the_same_image_keep_it_once(make: Make, photos: Photos) -> None:
    together = threading.Barrier(4, timeout=10)

    def slow(number: int) -> Image.Image:
        together.wait()
        return photos(number)

    cache = make(slow)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(cache.__getitem__, [0] * 4))
    assert all(same(image, cache[0]) for image in images)
    assert cache.bytes == 3 * 37 * 32


def test_many_threads_in_random_order_get_the_right_images(make: Make) -> None:
    plain = [Image.new("RGB", (10 + number % 7, 12), (number, 255 - number, 7)) for number in range(60)]
    cache = make(plain.__getitem__, len(plain), limit_bytes=45 * 3 * 13 * 12)
    order = [int(number) for number in np.random.default_rng(0).integers(0, 60, 1500)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(cache.__getitem__, order))
    finally:
        sys.setswitchinterval(interval)
    assert all(same(image, plain[number]) for image, number in zip(found, order, strict=True))
    assert cache.hits + cache.misses == 1500
    assert 0 < cache.bytes <= 45 * 3 * 13 * 12
    assert cache.hits > 700


def test_an_image_that_cannot_be_decoded_is_told_each_time(make: Make, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    cache = make(lambda number: load_image(tmp_path / "broken.png").rgb, 1)
    for _ in range(2):
        with pytest.raises(NotAnImage, match=r"broken\.png"):
            cache[0]
    assert cache.bytes == 0


def test_numbers_outside_are_refused(make: Make, photos: Photos) -> None:
    cache = make(photos)
    assert len(cache) == 6
    for number in (-1, 6):
        with pytest.raises(IndexError, match=f"no image {number}"):
            cache[number]


def test_sizes_and_limits_that_cannot_be_are_named(make: Make, photos: Photos) -> None:
    with pytest.raises(ConfigError, match="size is 0"):
        make(photos, size=0)
    with pytest.raises(ConfigError, match="limit_bytes is -1"):
        make(photos, limit_bytes=-1)


def test_two_caches_in_one_folder_do_not_mix(make: Make, photos: Photos) -> None:
    first, second = make(photos), make(lambda number: photos.images[-1 - number])
    for _ in range(2):
        for number in range(6):
            assert same(first[number], second[5 - number])


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_closing_leaves_no_file_behind(tmp_path: Path, photos: Photos) -> None:
    before = open_files()
    with PixelCache(photos, 6, size=32, limit_bytes=ROOM, folder=tmp_path) as cache:
        assert [image.size for image in cache] == [image.size for image in cache]
        assert open_files() == before + 1
    cache.close()
    assert open_files() == before
    assert list(tmp_path.iterdir()) == []
    assert cache.bytes == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, photos: Photos) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot keep decoded images in .*file.*give a folder that can be written"):
        PixelCache(photos, 6, size=32, limit_bytes=ROOM, folder=tmp_path / "file")


def test_a_full_disk_is_told_with_the_folder_and_a_way_out(tmp_path: Path, photos: Photos) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PixelCache(photos, 6, size=32, limit_bytes=ROOM, folder=tmp_path) as cache:
        kept = cache[0]
        room = 3 * (37 * 32) + 100  # the second image is written in part, then there is no room
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            with pytest.raises(TrainingError, match="a folder on a disk with more room, or a smaller limit") as caught:
                cache[2]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert str(tmp_path) in str(caught.value) and "File too large" in str(caught.value)
        assert same(cache[4], cache[4]) and same(cache[0], kept), "what was kept before and after is whole"


def test_no_space_left_is_told_in_the_words_of_the_system(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullFile:
        def __init__(self, *, dir: Path, **_: object) -> None:
            self.position = 0

        def seek(self, position: int) -> None:
            self.position = position

        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            pass

    monkeypatch.setattr(pixels.tempfile, "TemporaryFile", FullFile)
    with (
        PixelCache(photos, 6, size=32, limit_bytes=ROOM, folder=tmp_path) as cache,
        pytest.raises(TrainingError, match=r"No space left on device, after 0 MB; give a folder"),
    ):
        cache[0]
