"""What every file of captions comes down to: image names with captions, maybe in splits, and a folder of images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from clip_qdrant.errors import TrainingError
from clip_qdrant_training.data.pairs import Pair

__all__ = ["CaptionEntry", "pick_splits", "to_pairs"]

_FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images")
_VALIDATION = frozenset({"dev", "val", "valid", "validation"})
_TRIED = 20  # names that are looked for in a folder: the first may be the one that is missing


class CaptionEntry(NamedTuple):
    """One image of a captions file, not looked for yet; captions are clean."""

    name: str
    captions: tuple[str, ...]
    split: str | None = None


def to_pairs(
    entries: list[CaptionEntry], path: Path, *, images: str | Path | None, split: str | None, near: Sequence[str] = ()
) -> list[Pair]:
    """The entries of one split as pairs with the paths of their images.

    `near` are more folders to look in, relative to that of the file. Raises TrainingError.
    """
    entries = _of_split(entries, path, split)
    folder = _image_folder(entries, path, images, near)
    return [Pair(folder / entry.name, entry.captions) for entry in entries]


def pick_splits(found: Mapping[str, int], split: str | None, where: str) -> list[str]:
    """The splits that are meant, of those found with their sizes: all of them for "all", several joined by +.

    val, dev, valid and validation are one. Raises TrainingError where several are found and none is named: training
    must not take in the test images unasked.
    """
    listed = ", ".join(f"{name} ({size})" for name, size in found.items())
    if split is None and len(found) > 1:
        raise TrainingError(f'{where} holds the splits {listed}: name one, or several as in train+val, or "all"')
    if split is None or split == "all":
        return list(found)
    picked = []
    for name in split.split("+"):
        same = [each for each in found if each in _spellings(name)]
        if not same:
            raise TrainingError(f"{where} holds no split {name!r}, only {listed}")
        picked += same
    return picked


def _of_split(entries: list[CaptionEntry], path: Path, split: str | None) -> list[CaptionEntry]:
    sizes: dict[str, int] = {}
    for entry in entries:
        if entry.split is not None:
            sizes[entry.split] = sizes.get(entry.split, 0) + 1
    if sizes:
        picked = pick_splits(sizes, split, str(path))
        return [entry for entry in entries if entry.split in picked or (entry.split is None and split in (None, "all"))]
    if split is None or split == "all":
        return entries
    listed = _list_file(path, split)
    wanted = _names_in(listed)
    chosen = [(entry, wanted.intersection(_names_of(entry))) for entry in entries]
    if missing := wanted.difference(*(names for _, names in chosen)):
        raise TrainingError(
            f"{listed} lists {len(missing)} images that have no caption in {path}, such as {min(missing)!r}: "
            "take these lines out, or add their captions"
        )
    return [entry for entry, names in chosen if names]


def _names_of(entry: CaptionEntry) -> tuple[str, str, str]:
    name = PurePath(entry.name)
    return entry.name, name.name, name.stem  # the split lists of Flickr30k have no suffix


def _names_in(listed: Path) -> frozenset[str]:
    try:
        names = frozenset(line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the image names in {listed}: {error}") from error
    if not names:
        raise TrainingError(f"{listed} lists no images: one name a line")
    return names


def _list_file(path: Path, split: str) -> Path:
    """The file with the image names of a split: its path, or a name such as "train" in Flickr_8k.trainImages.txt."""
    for given in (Path(split), path.parent / split):
        if given.is_file():
            return given
    words = "|".join(re.escape(word) for word in sorted(_spellings(split)))
    named = re.compile(rf"(?:^|[^a-z])(?:{words})(?:_?images?)?(?:[^a-z]|$)")
    found = sorted(
        each
        for each in path.parent.glob("*.txt")
        if each.name != path.name and named.search(each.stem.lower().removeprefix("flickr"))
    )
    if len(found) != 1:
        have = f"found {', '.join(each.name for each in found)}" if found else "found none"
        raise TrainingError(
            f"{path} says nothing of splits. For the split {split!r}, looked for one file such as "
            f"Flickr_8k.{split}Images.txt in {path.parent}, and {have}: give the path of the file that lists its images"
        )
    return found[0]


def _spellings(split: str) -> frozenset[str]:
    return _VALIDATION if split in _VALIDATION else frozenset({split})


def _image_folder(entries: Sequence[CaptionEntry], path: Path, images: str | Path | None, near: Sequence[str]) -> Path:
    """The folder in which the first images lie. Raises TrainingError if none does, naming where it looked."""
    tried = entries[:_TRIED]
    folders = [Path(images)] if images is not None else list(_folders_around(path.parent, near))
    for folder in folders:
        if any(_is_there(folder / entry.name) for entry in tried):
            return folder
    looked = ", ".join(str(folder) for folder in folders if folder.is_dir()) or f"{folders[0]}, which is no folder"
    raise TrainingError(
        f"none of the first {len(tried)} images of {path} is there, such as {tried[0].name!r}. Looked in {looked}: "
        "say with images where they are"
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _folders_around(folder: Path, near: Sequence[str]) -> Iterator[Path]:
    yield folder
    for name in (*near, *_FOLDERS):
        yield folder / name
    for name in _FOLDERS:
        yield folder.parent / name
