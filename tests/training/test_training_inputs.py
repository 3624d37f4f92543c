"""A sample follows from seed, epoch and pair alone, and what is computed once is what would be computed each time."""

from __future__ import annotations

import copy
import io
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import SIZE, pictures, tiny_checkpoint
from torch import Tensor

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant_training import Pair, TrainConfig
from clip_qdrant_training.data.augment import draw, swap_sides
from clip_qdrant_training.inputs.samples import Batch, Samples, make_random
from clip_qdrant_training.network.towers import Towers

pytestmark = pytest.mark.usefixtures("one_thread")

MANY = ("a dog", "a cat", "two dogs", "the grass", "a red square", "a circle on the grass")
NO_CHANGE: dict[str, Any] = {"crop": 1.0, "ratio": 1.0, "colour": 0.0}


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    sizes = [(80, 70), (200, 90), (64, 64), (50, 300)]
    captions = [("a dog on the left", "a cat"), ("a cat on the right",), MANY, ("two dogs", "a Left turn")]
    return [Pair(pictures(1, seed=number, size=sizes[number % 4])[0], captions[number % 4]) for number in range(8)]


Make = Callable[..., Samples]


@pytest.fixture
def make(tiny: Checkpoint, pairs: list[Pair]) -> Iterator[Make]:
    """Makes samples of the pairs, and closes them."""
    made: list[Samples] = []

    def samples(
        of: list[Pair] | None = None,
        *,
        start: Checkpoint = tiny,
        stages: int = 0,
        text: bool = False,
        folder: Path | None = None,
        towers: type[Towers] = Towers,
        precision: torch.dtype = torch.float32,
        **options: Any,
    ) -> Samples:
        config = TrainConfig(**options)
        tower = towers(start, frozen_stages=stages, frozen_text=text, precision=precision, unit=True)
        made.append(Samples(start, of or pairs, tower, config, views=config.views, folder=folder))
        return made[-1]

    yield samples
    for each in made:
        each.close()


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding: whether two rows, or two batches, are rounded alike is up to the processor."""
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * largest)


def same(left: Batch, right: Batch) -> bool:
    return (
        (left.numbers, left.views, left.missing, left.texts) == (right.numbers, right.views, right.missing, right.texts)
        and torch.equal(left.pixels, right.pixels)
        and torch.equal(left.image_keys, right.image_keys)
        and torch.equal(left.text_keys, right.text_keys)
    )


# --- one sample ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [0, 3])
@pytest.mark.parametrize("cache", ["memory", "off"])
def test_a_sample_does_not_depend_on_what_was_asked_before_or_beside_it(make: Make, stages: int, cache: str) -> None:
    options = {"stages": stages, "cache": cache, "captions_per_image": 2, "views": 3}
    samples = make(**options)
    for epoch, numbers in ((3, [5, 0]), (1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [7, 3])):
        samples.prepare(numbers, epoch)
    batch = samples.prepare([6, 2, 5], 2)
    for position, number in enumerate(batch.numbers):
        alone = make(**options).prepare([number], 2)
        assert torch.equal(alone.pixels[0], batch.pixels[position])
        assert alone.texts == batch.texts[2 * position : 2 * position + 2]
        assert alone.views == [batch.views[position]]
        assert alone.image_keys[0] == batch.image_keys[position]
        assert torch.equal(alone.text_keys, batch.text_keys[2 * position : 2 * position + 2])


def test_samples_prepared_at_the_same_time_are_those_prepared_in_turn(make: Make) -> None:
    asked = [([number, (number + 3) % 8], epoch) for epoch in (1, 2, 3) for number in range(8)]
    expected = [make().prepare(*each) for each in asked]
    samples = make()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: samples.prepare(*each), asked))
    assert all(same(left, right) for left, right in zip(found, expected, strict=True))


def test_another_seed_epoch_or_pair_gives_another_view(make: Make) -> None:
    image = pictures(1)[0]
    twins = [Pair(image, ("a dog",)), Pair(image, ("a dog",))]
    samples = make(twins)
    views = [samples.prepare([number], epoch).pixels for number in (0, 1) for epoch in (1, 2)]
    views.append(make(twins, seed=1).prepare([0], 1).pixels)
    for number, view in enumerate(views):
        assert not any(torch.equal(view, other) for other in views[:number])
    both = samples.prepare([0, 1], 1)
    assert both.image_keys[0] == both.image_keys[1] and both.text_keys[0] == both.text_keys[1]


def test_one_pair_may_be_in_a_batch_twice(make: Make) -> None:
    for stages in (0, 3):
        samples = make(stages=stages)
        batch = samples.prepare([4, 4], 1)
        assert torch.equal(batch.pixels[0], batch.pixels[1])
        rows = samples.towers.image_rows(samples.image_inputs(batch))
        assert_close(rows[0], rows[1])


# --- captions --------------------------------------------------------------------------------------------------------


def test_fewer_captions_than_wanted_are_all_there_and_some_again(make: Make) -> None:
    samples = make(captions_per_image=5, flip="off")
    for epoch in range(1, 6):
        batch = samples.prepare([0, 1], epoch)
        first, second = batch.texts[:5], batch.texts[5:]
        assert set(first) == {"a dog on the left", "a cat"} and second == ["a cat on the right"] * 5
        assert len(batch.text_keys) == 10 and len(set(batch.text_keys[5:].tolist())) == 1


def test_of_many_captions_different_ones_are_drawn_and_each_comes_round(make: Make) -> None:
    samples = make(captions_per_image=3)
    drawn = [tuple(samples.prepare([2], epoch).texts) for epoch in range(1, 25)]
    assert all(len(set(texts)) == 3 for texts in drawn)
    assert set().union(*drawn) == set(MANY)
    assert len(set(drawn)) > 10


# --- mirror images ---------------------------------------------------------------------------------------------------


def sided_pairs() -> list[Pair]:
    """Images of the size that is wanted, so that a view without any change is the image or its mirror image."""
    images = pictures(4, size=(SIZE, SIZE))
    captions = ("a dog on the left", "A dog on the right.", "a cat", "LEFTMOST dog")
    return [Pair(image, (caption,)) for image, caption in zip(images, captions, strict=True)]


@pytest.mark.parametrize("stages", [0, 3])
def test_captions_turn_with_their_image_and_with_it_alone(make: Make, stages: int) -> None:
    pairs = sided_pairs()
    samples = make(pairs, stages=stages, views=6, **NO_CHANGE)
    seen = set()
    for epoch in range(1, 13):
        batch = samples.prepare([0, 1, 2, 3], epoch)
        for number, (pixels, text) in enumerate(zip(batch.pixels.numpy(), batch.texts, strict=True)):
            image = np.asarray(pairs[number].image)
            mirrored = np.array_equal(pixels, image[:, ::-1])
            assert mirrored or np.array_equal(pixels, image)
            [caption] = pairs[number].captions
            assert text == (swap_sides(caption) if mirrored else caption)
            seen.add((number, mirrored))
    assert len(seen) == 8, "each was seen both ways"


def test_a_turned_caption_is_known_to_equal_that_of_another_image(make: Make) -> None:
    samples = make(sided_pairs(), **NO_CHANGE)
    keys: dict[str, set[int]] = {}
    for epoch in range(1, 13):
        batch = samples.prepare([0, 1], epoch)
        for text, key in zip(batch.texts, batch.text_keys.tolist(), strict=True):
            keys.setdefault(text.lower().rstrip("."), set()).add(key)
    assert len(keys) == 2 and all(len(each) == 1 for each in keys.values())
    assert keys["a dog on the left"] != keys["a dog on the right"]


def test_flipping_can_be_off_or_leave_sided_captions_alone(make: Make) -> None:
    pairs = sided_pairs()
    for flip, turned in (("off", set()), ("unsided", {2})):
        samples, mirrored = make(pairs, flip=flip, **NO_CHANGE), set()
        for epoch in range(1, 13):
            batch = samples.prepare([0, 1, 2, 3], epoch)
            assert batch.texts == [pair.captions[0] for pair in pairs]
            for number, pixels in enumerate(batch.pixels.numpy()):
                if not np.array_equal(pixels, np.asarray(pairs[number].image)):
                    mirrored.add(number)
        assert mirrored == turned


# --- views and what is kept of them ----------------------------------------------------------------------------------


def test_each_view_is_seen_in_turn_and_pairs_begin_with_different_ones(make: Make) -> None:
    samples = make([Pair(pictures(1)[0], ("a dog",))] * 40, stages=3, views=3)
    views = np.array([samples.prepare(list(range(40)), epoch).views for epoch in range(1, 7)])  # (epochs, pairs)
    assert (np.sort(views[:3], axis=0) == np.arange(3)[:, None]).all()
    assert (views[:3] == views[3:]).all()
    assert np.bincount(views[0]).min() >= 5
    assert (np.diff(views, axis=0) % 3 == 1).all()


def test_a_view_is_the_same_whenever_it_comes_round_and_one_is_plain(make: Make, tiny: Checkpoint) -> None:
    samples = make(stages=3, views=3)
    first = [samples.prepare([1], epoch) for epoch in (1, 2, 3)]
    again = [samples.prepare([1], epoch) for epoch in (4, 5, 6)]
    assert all(torch.equal(left.pixels, right.pixels) for left, right in zip(first, again, strict=True))
    [plain] = [batch for batch in first if batch.views == [0]]
    assert np.array_equal(plain.pixels[0].numpy(), tiny.preprocessing(samples.pairs[1].image))
    assert all(not torch.equal(plain.pixels, batch.pixels) for batch in first if batch is not plain)


@pytest.mark.parametrize("stages", [1, 4, 7])
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_kept_features_are_bit_for_bit_those_that_were_computed(
    make: Make, tmp_path: Path, stages: int, cache: str
) -> None:
    kept = make(stages=stages, views=2, cache=cache, folder=tmp_path)
    anew = make(stages=stages, views=2, cache="off")
    batches = [([0, 1, 2], 1), ([3, 4, 5, 6, 7], 1), ([7, 0, 5], 2), ([1, 2, 3, 4, 6], 2)]
    computed: dict[tuple[int, int], Tensor] = {}
    for number, (numbers, epoch) in enumerate([*batches, ([2, 7, 4, 0], 3), ([6], 4), ([1, 3, 5, 0], 4)]):
        left, right = kept.prepare(numbers, epoch), anew.prepare(numbers, epoch)
        assert len(left.missing) == (len(numbers) if number < 4 else 0)
        assert len(right.missing) == len(right.pixels) == len(numbers)
        assert left.texts == right.texts
        found, expected = kept.image_inputs(left), anew.image_inputs(right)
        for pair, view, features in zip(left.numbers, left.views, found, strict=True):
            assert torch.equal(features, computed.setdefault((pair, view), features.clone()))
        assert_close(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last) or found.ndim == 2
        assert_close(kept.towers.image_rows(found), anew.towers.image_rows(expected))


class Counting(Towers):
    """Counts the images of each call that computes frozen features."""

    counts: list[int]

    def image_inputs(self, pixels: Tensor) -> Tensor:
        self.counts = [*getattr(self, "counts", []), len(pixels)]
        return super().image_inputs(pixels)


def test_frozen_features_are_computed_for_as_many_images_a_call_whatever_is_asked(make: Make) -> None:
    """A resumed run computes them in other batches than the run it goes on with, and is to reach the same weights."""
    samples = make(stages=3, views=1, towers=Counting)
    for numbers in ([0], [0, 1, 2], [3, 4, 5, 6, 7], [0] * 50):
        samples.image_inputs(samples.prepare(numbers, 1))
    samples.all_rows()
    assert isinstance(samples.towers, Counting)
    assert len(samples.towers.counts) >= 3 and len(set(samples.towers.counts)) == 1


def test_kept_features_have_the_precision_of_the_run_unless_nothing_follows_but_heads(make: Make) -> None:
    for stages, dtype in ((3, torch.bfloat16), (7, torch.float32)):
        samples = make(stages=stages, precision=torch.bfloat16)
        for _ in range(2):
            inputs = samples.image_inputs(samples.prepare([0, 1], 1))
            assert inputs.dtype == dtype and not inputs.requires_grad
            assert samples.towers.image_rows(inputs).dtype == torch.float32


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_features_are_kept_up_to_the_limit_and_the_rest_is_computed_each_time(
    make: Make, tmp_path: Path, cache: str
) -> None:
    a_map = make(stages=7).image_inputs(make(stages=7).prepare([0], 1))
    size = a_map.numel() * 4
    samples = make(stages=7, views=2, cache=cache, folder=tmp_path, cache_gb=(5.5 * size) / 1e9)
    for epoch in (1, 2):
        samples.image_inputs(samples.prepare(list(range(8)), epoch))
    missing = sum(len(samples.prepare(list(range(8)), epoch).missing) for epoch in (3, 4))
    assert missing == 2 * 8 - 5
    anew = make(stages=7, views=2, cache="off")
    for epoch in (3, 4):
        found, expected = (each.image_inputs(each.prepare(list(range(8)), epoch)) for each in (samples, anew))
        assert_close(found, expected)


def test_files_of_features_have_no_name_that_a_killed_run_could_leave(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "cache"
    samples = [make(stages=3, cache="disk", folder=folder) for _ in range(2)]
    for each in samples:
        each.image_inputs(each.prepare([0, 1], 1))
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    for each in samples:
        each.close()
        each.close()
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_for_features_is_told(make: Make, tmp_path: Path) -> None:
    samples = make(stages=3, cache="disk", folder=tmp_path)
    batch, limits = samples.prepare([0, 1], 1), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot keep .* GB of features in .* or a smaller cache_gb"):
            samples.image_inputs(batch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cache", ["memory", "disk", "off"])
def test_without_frozen_stages_each_epoch_has_views_of_its_own_whatever_is_cached(
    make: Make, tmp_path: Path, cache: str
) -> None:
    samples, anew = make(cache=cache, folder=tmp_path), make(cache="off")
    for epoch in (1, 2, 3):
        left, right = samples.prepare([3, 1, 0], epoch), anew.prepare([3, 1, 0], epoch)
        assert left.missing == [0, 1, 2]
        assert same(left, right)
        assert torch.equal(samples.image_inputs(left), left.pixels)


def test_frozen_text_features_do_not_depend_on_the_batch(make: Make) -> None:
    samples, other = make(text=True, captions_per_image=2), make(text=True, captions_per_image=2)
    for epoch in (1, 2, 3):
        batch = samples.prepare(list(range(8)), epoch)
        [features] = samples.text_inputs(batch)
        for number in range(8):
            [alone] = other.text_inputs(other.prepare([number], epoch))
            assert torch.equal(alone, features[2 * number : 2 * number + 2])
    ids, mask = (torch.from_numpy(each) for each in samples.towers.tokenize(batch.texts))
    with torch.no_grad():
        expected = samples.towers.model.text_encoder(ids, mask)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


# --- judging ---------------------------------------------------------------------------------------------------------


class Seen(Towers):
    """Keeps the pixels that it is given."""

    seen: list[Tensor]

    def image_rows(self, inputs: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), inputs]
        return super().image_rows(inputs)


def photo(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG with fine detail, which shows how often it was resized."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 2, size[0] // 2, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("cache", ["memory", "disk", "off"])
def test_images_are_judged_by_the_very_pixels_that_an_embedder_takes(
    make: Make, tiny: Checkpoint, tmp_path: Path, resize: str, cache: str
) -> None:
    start = replace(tiny, preprocessing=replace(tiny.preprocessing, resize=resize))
    sizes = [(64, 64), (65, 64), (90, 70), (300, 200), (130, 1000), (700, 520), (30, 20)]
    images = [photo(size, number) for number, size in enumerate(sizes)]
    pairs = [Pair(image, ("a dog",)) for image in images]
    clip = ClipEmbedder.from_checkpoint(start, device="cpu")
    expected = np.stack([clip.preprocess(load_image(image, target=SIZE).rgb) for image in images])
    samples = make(pairs, start=start, towers=Seen, cache=cache, folder=tmp_path)
    samples.prepare(list(range(7)), 1)  # what is kept for crops is not what is judged
    for _ in range(2):
        samples.all_rows()
    assert isinstance(samples.towers, Seen)
    for pixels in samples.towers.seen:
        assert np.array_equal(pixels.numpy(), expected)
    frozen = make(pairs, start=start, stages=3, views=1)
    assert np.array_equal(frozen.prepare(list(range(7)), 1).pixels.numpy(), expected)


@pytest.mark.parametrize("frozen", [(0, False), (3, True), (7, True)])
def test_rows_are_those_of_the_embedder_in_the_order_of_pairs_and_captions(
    make: Make, tiny: Checkpoint, pairs: list[Pair], frozen: tuple[int, bool]
) -> None:
    clip = ClipEmbedder.from_checkpoint(tiny, device="cpu")
    expected_images = clip.embed_images([pair.image for pair in pairs])
    expected_texts = clip.embed_texts([caption for pair in pairs for caption in pair.captions])
    samples = make(stages=frozen[0], text=frozen[1], views=1)
    for _ in range(2):
        images, texts = samples.all_rows()
        assert images.dtype == texts.dtype == np.float32
        np.testing.assert_allclose(images, expected_images, atol=2e-4)
        np.testing.assert_allclose(texts, expected_texts, atol=2e-4)


def test_samples_that_were_judged_can_be_trained_on(make: Make, tiny: Checkpoint) -> None:
    start = replace(tiny, model=copy.deepcopy(tiny.model))
    samples = make(start=start, stages=3, text=True, views=2)
    samples.all_rows()
    for epoch in (1, 2):
        batch = samples.prepare([0, 1, 2], epoch)
        rows = samples.towers.image_rows(samples.image_inputs(batch))
        texts = samples.towers.text_rows(*samples.text_inputs(batch))
        (rows @ texts.T).square().sum().backward()
    assert start.model.image_encoder.model.conv_head.weight.grad is not None
    assert start.model.image_encoder.model.conv_stem.weight.grad is None


def test_crops_of_large_photos_keep_their_sharpness(make: Make, tiny: Checkpoint) -> None:
    image = Image.open(io.BytesIO(photo((256, 256), 0)))
    image.load()
    options: dict[str, Any] = {"crop": 0.3, "flip": "off", "colour": 0.0}
    samples = make([Pair(image, ("a dog",)), Pair(image, ("a cat",))], **options)
    small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)

    def blur(pixels: np.ndarray, ideal: np.ndarray) -> float:
        return float(np.abs(pixels.astype(float) - ideal).mean())

    errors = []
    for epoch in range(1, 21):
        view = draw(samples.config.augmentation, make_random(0, epoch, 0), image.size, sided=False)
        ideal = view.apply(image, tiny.preprocessing)
        same_view = draw(samples.config.augmentation, make_random(0, epoch, 0), small.size, sided=False)
        worse = same_view.apply(small, tiny.preprocessing)
        errors.append((blur(samples.prepare([0], epoch).pixels[0].numpy(), ideal), blur(worse, ideal)))
    kept, reduced = np.array(errors).mean(axis=0)
    assert kept < 0.6 * reduced


# --- towers ----------------------------------------------------------------------------------------------------------


def test_a_cut_anywhere_leaves_the_rows_as_they_were(make: Make, tiny: Checkpoint) -> None:
    samples = make(captions_per_image=2)
    batch = samples.prepare([0, 1, 2, 3], 1)
    ids, mask = (torch.from_numpy(each) for each in samples.towers.tokenize(batch.texts))
    with torch.no_grad():
        images, texts = tiny.model.encode_image(batch.pixels), tiny.model.encode_text(ids, mask)
        for stages in range(8):
            tower = Towers(tiny, frozen_stages=stages, frozen_text=stages > 3, precision=torch.float32, unit=True)
            rows = tower.image_rows(tower.image_inputs(batch.pixels))
            torch.testing.assert_close(rows, images, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(tower.text_rows(*tower.text_inputs(batch.texts)), texts, rtol=1e-4, atol=1e-5)


def test_rows_that_are_not_to_be_unit_are_what_the_heads_give(tiny: Checkpoint, make: Make) -> None:
    batch = make().prepare([0, 1], 1)
    tower = Towers(tiny, frozen_stages=0, frozen_text=False, precision=torch.float32, unit=False)
    with torch.no_grad():
        rows = tower.image_rows(tower.image_inputs(batch.pixels))
        expected = tiny.model.image_projection(tiny.model.image_encoder(tiny.model.pixel_norm(batch.pixels)))
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rows, F.normalize(rows, dim=-1), atol=0.1)


def test_a_copy_of_an_image_under_another_name_is_the_same_image(tmp_path: Path, make: Make) -> None:
    for number, picture in enumerate(pictures(2)):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    samples = make([Pair(tmp_path / f"{name}.png", ("a dog",)) for name in ("0", "1", "copy")])
    first, second, copy = samples.prepare([0, 1, 2], 1).image_keys.tolist()
    assert first == copy != second
