"""The pickle inside a `torch.save` file, read without executing anything and without torch.

Such a pickle makes plain containers and refers to tensors. The few opcodes that it takes are interpreted here; any
other, and any global that is not a storage or the rebuilding of a tensor, is refused. `torch.load(weights_only=True)`
does the same, and allows more.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_qdrant.errors import CheckpointError

__all__ = ["DTYPES", "ITEM_SIZES", "StoredTensor", "unpickle"]

# What numpy calls the numbers of a storage, by its name; it knows no bfloat16, whose bits these are.
DTYPES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
ITEM_SIZES = {kind: np.dtype(name).itemsize for kind, name in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where the numbers of a tensor lie: in `record` of the archive, from number `offset` on, row by row."""

    kind: str  # a key of ITEM_SIZES
    record: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_SIZES[self.kind]


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: str
    record: str
    size: int


class _Mark:
    pass


_MARK = _Mark()


def unpickle(data: bytes) -> Any:
    """What the pickle describes: dicts, lists, tuples, texts, numbers, StoredTensors. Raises CheckpointError."""
    machine = _Machine(data)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError) as error:
        raise CheckpointError("it is cut off or damaged") from error


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        steps, data = _STEPS, self.data
        while True:
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                raise CheckpointError(f"it has the opcode {chr(code)!r}, which no checkpoint has")
            step(self)

    def take(self, layout: str, size: int) -> Any:
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return value

    def text(self, size: int) -> str:
        if self.at + size > len(self.data):
            raise CheckpointError("it is cut off")
        value = self.data[self.at : self.at + size].decode("utf-8", "surrogatepass")
        self.at += size
        return value

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        value = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return value

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            if at == 0:
                raise CheckpointError("it is damaged")
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def close(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise CheckpointError("it is damaged")
        target.update(zip(items[::2], items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise CheckpointError("it is damaged")
        self.stack[-1].extend(items)

    def find_global(self) -> None:
        module, name = self.line(), self.line()
        known = _GLOBALS.get((module, name))
        if known is None and module == "torch" and name.removesuffix("Storage") in ITEM_SIZES:
            known = name.removesuffix("Storage")
        if known is None:
            raise CheckpointError(f"it names {module}.{name}")
        self.stack.append(known)

    def find_storage(self) -> None:
        kind, storage, key, _place, size = self.stack.pop()
        if kind != "storage" or storage not in ITEM_SIZES or type(key) is not str or type(size) is not int or size < 0:
            raise CheckpointError("it refers to something that is no tensor")
        self.stack.append(_Storage(storage, f"data/{key}", size))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Function) or type(arguments) is not tuple:
            raise CheckpointError("it calls something that is no function of a tensor")
        self.stack.append(function.run(*arguments))

    def set_state(self) -> None:
        self.stack.pop()  # of an OrderedDict: versions of modules
        if type(self.stack[-1]) is not dict:
            raise CheckpointError("it sets the state of an object")


@dataclass(frozen=True)
class _Function:
    run: Callable[..., Any]


def _make_dict(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


def _make_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, *_metadata: Any
) -> StoredTensor:
    whole = all(type(value) is int and value >= 0 for value in (offset, *shape, *strides))
    if not isinstance(storage, _Storage) or not whole or len(shape) != len(strides):
        raise CheckpointError("it describes a tensor that cannot be")
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected and math.prod(shape):
            raise CheckpointError("it describes a tensor whose rows do not follow each other")
        expected *= size
    if offset + math.prod(shape) > storage.size:
        raise CheckpointError("it describes a tensor that is larger than what is stored of it")
    return StoredTensor(storage.kind, storage.record, offset, tuple(shape))


def _make_parameter(tensor: Any, _gradient: Any, _hooks: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise CheckpointError("it describes a parameter that cannot be")
    return tensor


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Function(_make_dict),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_make_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_make_parameter),
}


def _remember(machine: _Machine, key: int) -> None:
    machine.memo[key] = machine.stack[-1]


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.extend([value])


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _skip(machine: _Machine) -> None:
    machine.at += 1


# By opcode, as in the standard library's pickletools.
_STEPS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _skip,  # PROTO
    ord("}"): lambda machine: machine.stack.append({}),
    ord("]"): lambda machine: machine.stack.append([]),
    ord(")"): lambda machine: machine.stack.append(()),
    ord("("): lambda machine: machine.stack.append(_MARK),
    ord("N"): lambda machine: machine.stack.append(None),
    0x88: lambda machine: machine.stack.append(True),
    0x89: lambda machine: machine.stack.append(False),
    ord("K"): lambda machine: machine.stack.append(machine.take("<B", 1)),
    ord("M"): lambda machine: machine.stack.append(machine.take("<H", 2)),
    ord("J"): lambda machine: machine.stack.append(machine.take("<i", 4)),
    0x8A: lambda machine: machine.stack.append(_long(machine)),
    ord("G"): lambda machine: machine.stack.append(machine.take(">d", 8)),
    ord("X"): lambda machine: machine.stack.append(machine.text(machine.take("<I", 4))),
    ord("q"): lambda machine: _remember(machine, machine.take("<B", 1)),
    ord("r"): lambda machine: _remember(machine, machine.take("<I", 4)),
    ord("h"): lambda machine: machine.stack.append(machine.memo[machine.take("<B", 1)]),
    ord("j"): lambda machine: machine.stack.append(machine.memo[machine.take("<I", 4)]),
    0x85: lambda machine: machine.close(1),
    0x86: lambda machine: machine.close(2),
    0x87: lambda machine: machine.close(3),
    ord("t"): lambda machine: machine.stack.append(tuple(machine.since_mark())),
    ord("a"): _append,
    ord("e"): lambda machine: machine.extend(machine.since_mark()),
    ord("s"): _set_item,
    ord("u"): lambda machine: machine.set_items(machine.since_mark()),
    ord("c"): _Machine.find_global,
    ord("Q"): _Machine.find_storage,
    ord("R"): _Machine.call,
    ord("b"): _Machine.set_state,
}


def _long(machine: _Machine) -> int:
    size = machine.take("<B", 1)
    value = int.from_bytes(machine.data[machine.at : machine.at + size], "little", signed=True)
    machine.at += size
    return value
