"""The archive that `torch.save` writes: a zip of uncompressed records, one for the pickle and one for each storage."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import weakref
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clip_qdrant.checkpoint_file.unpickle import DTYPES, ITEM_SIZES, StoredTensor, unpickle
from clip_qdrant.errors import CheckpointError

__all__ = ["Archive"]

_LOCAL_HEADER = 30  # bytes before the name of a record


class Archive:
    """An open file, from which tensors are read when they are asked for. Thread-safe.

    It stays the file that was opened, whatever else is put in its place. Raises OSError, BadZipFile, and
    CheckpointError, which does not name the file, for what no checkpoint has.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        with os.fdopen(os.dup(self._file), "rb") as file:
            self._read_directory(file)

    def _read_directory(self, file: BinaryIO) -> None:
        with zipfile.ZipFile(file) as archive:
            self._records = {record.filename: record for record in archive.infolist()}
            found = [name for name in self._records if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(found) != 1:
                raise CheckpointError("it is no archive of torch.save")
            self._prefix = found[0].removesuffix("data.pkl")
            self._check(archive.infolist())
            order = f"{self._prefix}byteorder"
            if order in self._records and archive.read(order) != sys.byteorder.encode():
                raise CheckpointError("it comes from a computer with another order of bytes")
            self._pickle = archive.read(found[0])

    def _check(self, records: list[zipfile.ZipInfo]) -> None:
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise CheckpointError("it has compressed records, which no checkpoint has")
        if sum(record.file_size for record in records) > os.fstat(self._file).st_size:
            raise CheckpointError("it says that it holds more than it does")

    def read_content(self) -> object:
        """The containers, with a StoredTensor for each tensor, all of which are there in full."""
        return unpickle(self._pickle)

    def check_tensor(self, tensor: StoredTensor) -> None:
        """Raises CheckpointError unless all its numbers are in the file."""
        record = self._records.get(self._prefix + tensor.record)
        if record is None or tensor.offset * ITEM_SIZES[tensor.kind] + tensor.nbytes > record.file_size:
            raise CheckpointError(f"it lacks numbers of a tensor ({tensor.record})")

    def size_of(self, tensor: StoredTensor) -> int:
        """Bytes of the record that it lies in."""
        return self._records[self._prefix + tensor.record].file_size

    def read(self, tensor: StoredTensor) -> np.ndarray:
        """Its numbers, mapped as they are stored; bfloat16, which numpy does not know, as float32. Raises OSError."""
        self.check_tensor(tensor)
        if not tensor.size:
            return np.empty(tensor.shape, dtype=DTYPES[tensor.kind])
        start = self._find(tensor.record) + tensor.offset * ITEM_SIZES[tensor.kind]
        array = np.frombuffer(self._map(start, tensor.nbytes), DTYPES[tensor.kind]).reshape(tensor.shape)
        if tensor.kind == "BFloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array

    def _find(self, name: str) -> int:
        """Where the bytes of a record begin."""
        record = self._records[self._prefix + name]
        header = self._map(record.header_offset, _LOCAL_HEADER)
        if header[:4].tobytes() != b"PK\3\4":
            raise OSError(f"{self._name} has been changed")
        name_length, extra = struct.unpack_from("<HH", header, 26)
        return int(record.header_offset + _LOCAL_HEADER + name_length + extra)

    def _map(self, start: int, size: int) -> memoryview:
        skipped = start % mmap.ALLOCATIONGRANULARITY
        if os.fstat(self._file).st_size < start + size:  # reading what is mapped beyond it is a SIGBUS
            raise OSError(f"{self._name} has been cut off")
        mapped = mmap.mmap(self._file, skipped + size, access=mmap.ACCESS_READ, offset=start - skipped)
        return memoryview(mapped)[skipped:]
