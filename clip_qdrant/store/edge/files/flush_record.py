"""What a shard had on disk at its last flush, kept beside it as `<folder>.flushed`: by this its damage is noticed.

The engine opens a shard whose files of ids are cut or gone, and has fewer points then, without a word. These files, and
those of vectors and payloads, only ever grow. So a file that is shorter than it was at the last flush, or whose list of
ids begins otherwise, is damaged; one that has grown is not, whenever the process was killed. The content of vectors
and payloads changes in place at any moment and is not compared.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from clip_qdrant.errors import StoreDamaged, StoreError
from clip_qdrant.file_replacement import open_replacement

__all__ = ["FlushRecord", "path_of_record", "read_record"]

_FORMAT = 1
# Lists of ids: appended to in a segment that is written to, and never changed in one that was optimized.
_IDS = ("mutable_id_tracker.mappings", "id_tracker.mappings")
_KEPT = (
    "version.info",  # the engine passes over a segment without it
    *_IDS,
    "mutable_id_tracker.versions",
    "vector_storage*/*vectors/status.dat",  # of dense vectors, multivectors, and those that are stored compressed
    "vector_storage*/*vectors/chunk_*.mmap",
    "vector_storage*/offsets/status.dat",  # of multivectors
    "vector_storage*/offsets/chunk_*.mmap",
    "vector_storage*/store/page_*.dat",  # of sparse vectors
    "vector_storage*/store/tracker.dat",
    "id_tracker.versions",  # of an optimized segment, as what follows
    "vector_storage*/matrix.dat",
    "vector_storage*/quantized.data",
    "vector_index*/graph.bin",
    "vector_index*/links*.bin",
    "vector_index*/inverted_index.dat",
    "payload_storage/page_*.dat",
    "payload_storage/tracker.dat",
)
_PIECE = 1 << 20  # bytes


@dataclass(slots=True)
class FlushRecord:
    """How many points, the size in bytes of each file, and the crc32 of those that list ids, by path in the shard."""

    points: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, int] = field(default_factory=dict)
    engine: str = ""

    def update(self, shard: Path, points: int) -> None:
        """Takes note of what is on disk now. Of the lists of ids only what is new is read."""
        found = sorted(path for kept in _KEPT for path in shard.glob(f"segments/*/{kept}"))
        before, self.sizes = self.sizes, {}
        for path in found:
            name = path.relative_to(shard).as_posix()
            self.sizes[name] = path.stat().st_size
            if path.name in _IDS:
                known = before.get(name, 0)
                self.digests[name] = _digest(path, self.digests.get(name, 0), known, self.sizes[name])
        self.points, self.engine = points, _engine()

    def forget(self, folder: str) -> None:
        """Takes out the files in a folder of that name, of any segment."""
        self.sizes = {name: size for name, size in self.sizes.items() if folder not in name.split("/")}

    def write(self, path: Path) -> None:
        """Replaces the file of this record. After a crash it holds this one or the one before."""
        with open_replacement(path) as file:
            file.write(json.dumps({"format": _FORMAT, **asdict(self)}).encode())

    def find_damage(self, shard: Path) -> str | None:
        """What is wrong with the files of a shard that is not open, None if nothing is."""
        if self.engine != _engine():
            return None  # another version may lay out its files anew
        for name, size in self.sizes.items():
            path = shard / name
            there = path.stat().st_size if path.exists() else None
            if there is None:
                return f"{name} is gone, which had {size:,} bytes at the last flush"
            if there < size:
                return f"{name} has {there:,} bytes, and had {size:,} at the last flush"
            if name in self.digests and _digest(path, 0, 0, size) != self.digests[name]:
                return f"{name} is not what it was at the last flush"
        return None


def path_of_record(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.flushed")


def read_record(shard: Path) -> FlushRecord:
    """The record of a shard. Raises StoreDamaged if there is none that can be read, StoreError if the system fails."""
    path = path_of_record(shard)
    try:
        data = json.loads(path.read_bytes())
        if data.pop("format") != _FORMAT:
            raise StoreError(f"{path} has another format than this version reads ({_FORMAT}); upgrade clip-qdrant")
        return FlushRecord(**data)
    except FileNotFoundError as error:
        raise StoreDamaged(f"{path.name} is gone, which says what was stored") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"{path.name}, which says what was stored, cannot be read ({error})") from error


def _digest(path: Path, value: int, start: int, end: int) -> int:
    """The crc32 of a file up to `end`, given that of its first `start` bytes."""
    with path.open("rb") as file:
        file.seek(start)
        while (left := end - file.tell()) > 0 and (piece := file.read(min(left, _PIECE))):
            value = zlib.crc32(piece, value)
    return value


def _engine() -> str:
    return version("qdrant-edge-py")
