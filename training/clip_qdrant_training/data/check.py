"""Looks through pairs before a training run does: every image is read and decoded once, every caption counted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from clip_qdrant.errors import ConfigError, ImageError, SourceError
from clip_qdrant.images.load import load_image
from clip_qdrant.runtime import cpu_count
from clip_qdrant_training.data.pairs import Pair, caption_key, image_input, image_name, pair_keys

__all__ = ["DataReport", "Finding", "Kind", "check"]

Progress = Callable[[str, int, int], None]  # what, done, total
Kind = Literal[
    "missing",
    "unreadable",
    "no caption",
    "tiny image",
    "duplicate image",
    "similar image",
    "leak",
    "similar leak",
    "long caption",
    "shared caption",
]

SMALLEST_SIDE = 32  # pixels: less than one patch or one last feature of the usual encoders
_DECODED_SIDE = 128  # enough for the hash of similar pictures; a JPEG is read whole even so
_MOST_SHARED = 10
# Of the 64 bits of a hash about half are set in a photo. A plain picture has next to none, and so would be similar to
# every other plain one.
_FEWEST_BITS = 24


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of what is wrong: the kind, the image or caption that it is about, and what it is."""

    kind: Kind
    where: str
    what: str


@dataclass(frozen=True)
class DataReport:
    """What a look through the data found. `counts` has every problem by its kind, `problems` the first of each kind."""

    pairs: int
    validation_pairs: int
    images: int  # that could be decoded and differ
    captions: int
    captions_per_image: float
    median_words: float
    longest_words: int
    median_width: int  # pixels, upright; 0 where no image could be decoded, as below
    median_height: int
    smallest_side: int
    bytes: int
    counts: Mapping[Kind, int] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a training run can read all of it: no image is missing or unreadable, none without a caption."""
        return not any(self.counts.get(kind) for kind in ("missing", "unreadable", "no caption"))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _ImageFacts:
    """What is kept of an image."""

    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    problem: Kind | None = None
    what: str = ""


class _Findings:
    """Counts all problems, and keeps the first `rows` of each kind."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.counts: Counter[Kind] = Counter()
        self.kept: list[Finding] = []

    def add(self, kind: Kind, where: str, what: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= self.rows:
            self.kept.append(Finding(kind, where, what))


def check(
    pairs: Sequence[Pair],
    *,
    validation: Sequence[Pair] = (),
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int | None = None,
    rows: int = 1000,
    progress: Progress | None = None,
    threads: int | None = None,
) -> DataReport:
    """Reads and decodes every image once, in threads, and looks at every caption.

    With `validation`, images of the one set that are in the other too are told as leaks. With `count_tokens` and
    `max_tokens`, captions are told of which the model would see only the start. `rows` limits the problems of each
    kind that are kept. Of an image a few hashes and numbers stay in memory. Raises ConfigError.
    """
    if (count_tokens is None) != (max_tokens is None):
        raise ConfigError("long captions are looked for with both count_tokens and max_tokens, or with neither")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}: give at least 1, or None for one a core")
    everything = [*pairs, *validation]
    names = _Names(everything, len(pairs))
    problems = _Findings(rows)
    sizes: list[tuple[int, int]] = []
    hashes: dict[int, str] = {}
    similar: dict[int, str] = {}
    total_bytes = 0
    for number, facts in enumerate(_look_at_all(everything, names, threads or cpu_count())):
        if progress is not None:
            progress("images", number + 1, len(everything))
        if facts.problem is not None:
            problems.add(facts.problem, names[number], facts.what)
            continue
        hashes[number] = facts.sha256
        if int(facts.phash, 16).bit_count() >= _FEWEST_BITS:
            similar[number] = facts.phash
        sizes.append((facts.width, facts.height))
        total_bytes += facts.bytes
        if min(facts.width, facts.height) < SMALLEST_SIDE:
            what = f"{facts.width} x {facts.height} pixels, and a side needs {SMALLEST_SIDE}"
            problems.add("tiny image", names[number], what)
    keys = pair_keys(everything, hashes=hashes)
    _find_copies(keys, similar, hashes, names, problems)
    words = _look_at_captions(everything, names, problems, count_tokens, max_tokens)
    _find_shared_captions(everything, keys, problems)
    sides = np.array(sizes or [(0, 0)])
    return DataReport(
        pairs=len(pairs),
        validation_pairs=len(validation),
        images=len({int(keys[number]) for number in hashes}),
        captions=len(words),
        captions_per_image=round(len(words) / max(len(everything), 1), 2),
        median_words=float(np.median(words)) if words else 0.0,
        longest_words=max(words, default=0),
        median_width=int(np.median(sides[:, 0])),
        median_height=int(np.median(sides[:, 1])),
        smallest_side=int(sides.min()),
        bytes=total_bytes,
        counts=dict(problems.counts),
        problems=tuple(problems.kept),
    )


class _Names:
    """How problems call the images: made only when one is needed."""

    def __init__(self, pairs: Sequence[Pair], training: int) -> None:
        self.pairs = pairs
        self.training = training

    def __getitem__(self, number: int) -> str:
        image = self.pairs[number].image
        if number < self.training:
            return image_name(image, number)
        return f"{image_name(image, number - self.training)} (validation)"


def _look_at_all(pairs: Sequence[Pair], names: _Names, threads: int) -> Iterator[_ImageFacts]:
    """The facts of each image, in order. Only a few are in work at a time: each may be a big file."""
    waiting: deque[Future[_ImageFacts]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number, pair in enumerate(pairs):
            waiting.append(pool.submit(_look_at, pair.image, names[number]))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _look_at(image: Any, name: str) -> _ImageFacts:
    try:
        info = load_image(image_input(image), target=_DECODED_SIDE, name=name).info
    except ImageError as error:
        return _ImageFacts(problem="unreadable", what=f"{error.reason}: {error}")
    except SourceError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        return _ImageFacts(problem="missing" if gone else "unreadable", what=str(error))
    except Exception as error:  # noqa: BLE001  an image of the user's own class may raise anything
        return _ImageFacts(problem="unreadable", what=f"{type(error).__name__}: {error}")
    return _ImageFacts(info.sha256, info.phash, info.width, info.height, info.bytes)


def _find_copies(
    keys: np.ndarray[Any, np.dtype[np.int64]],
    similar: Mapping[int, str],
    hashes: Mapping[int, str],
    names: _Names,
    problems: _Findings,
) -> None:
    """Each later copy of an image against the first one, in its own set and across the two."""
    first: dict[tuple[bool, int], int] = {}
    first_like: dict[tuple[bool, str], int] = {}
    for number in sorted(hashes):
        validation = number >= names.training
        key, like = int(keys[number]), similar.get(number, "")
        for other in (False, True) if validation else (False,):
            leak = validation and not other
            same = first.get((other, key))
            near = first_like.get((other, like)) if like else None
            if same is not None:
                problems.add("leak" if leak else "duplicate image", names[number], f"the same image as {names[same]}")
            elif near is not None:
                problems.add("similar leak" if leak else "similar image", names[number], f"looks like {names[near]}")
        first.setdefault((validation, key), number)
        if like:
            first_like.setdefault((validation, like), number)


def _look_at_captions(
    pairs: Sequence[Pair],
    names: _Names,
    problems: _Findings,
    count_tokens: Callable[[str], int] | None,
    max_tokens: int | None,
) -> list[int]:
    """The words of every caption."""
    words = []
    for number, pair in enumerate(pairs):
        if not pair.captions:
            problems.add("no caption", names[number], "there is none")
        for caption in pair.captions:
            if not caption.strip():
                problems.add("no caption", names[number], f"the caption is {caption!r}")
                continue
            words.append(len(caption.split()))
            if count_tokens is not None and max_tokens is not None and (tokens := count_tokens(caption)) > max_tokens:
                what = f"{tokens} tokens, of which the model sees {max_tokens}: {caption:.60}"
                problems.add("long caption", names[number], what)
    return words


def _find_shared_captions(
    pairs: Sequence[Pair], keys: np.ndarray[Any, np.dtype[np.int64]], problems: _Findings
) -> None:
    """Captions of several images, the most frequent first: in one batch, a right answer would count as a wrong one."""
    texts: dict[str, str] = {}
    owners: dict[str, int] = {}
    images: Counter[str] = Counter()
    order = np.argsort(keys, kind="stable")  # so that the pairs of one image follow one another
    for number in order:
        for caption in pairs[number].captions:
            key = caption_key(caption)
            if key and owners.get(key) != keys[number]:
                owners[key] = int(keys[number])
                images[key] += 1
                texts.setdefault(key, caption)
    shared = Counter({key: count for key, count in images.items() if count > 1})
    for key, count in shared.most_common(_MOST_SHARED):
        problems.add("shared caption", f"{texts[key]:.80}", f"describes {count} images")
    if shared:
        problems.counts["shared caption"] = len(shared)
