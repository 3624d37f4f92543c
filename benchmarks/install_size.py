"""How much is installed: the packages that searching and ingesting need, and those that the extra `torch` adds.

    python benchmarks/install_size.py [EXTRA ...]

Counts the files of the distributions that are installed beside this Python, found by their requirements. By default for
no extra, and for `torch`.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def find_needed(name: str, extras: set[str]) -> set[str]:
    """The distributions that are installed with one, itself included."""
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        for text in metadata.requires(package) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, wanted) for wanted in ("", *requirement.extras)]
    return {package for package, _ in seen}


def measure(package: str) -> int:
    """Bytes of its files."""
    paths = [file.locate() for file in metadata.files(package) or ()]
    return sum(path.stat().st_size for path in map(_as_path, paths) if path.is_file())


def _as_path(path: object) -> Path:
    return Path(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("extras", nargs="*", default=["torch"])
    options = parser.parse_args()
    print(f"{'extra':12}{'packages':>10}{'MB':>10}  largest")
    for extra in ("", *options.extras):
        packages = find_needed("clip-qdrant", {extra} - {""})
        sizes = sorted(((measure(package), package) for package in packages), reverse=True)
        largest = ", ".join(f"{package} {size / 1e6:.0f}" for size, package in sizes[:5])
        print(f"{extra or 'none':12}{len(packages):10}{sum(size for size, _ in sizes) / 1e6:10.0f}  {largest}")


if __name__ == "__main__":
    main()
