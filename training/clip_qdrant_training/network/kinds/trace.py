"""What a network calls while it encodes: by that its layers and its head are found, however it is written.

Layers are the modules of which each takes what the one before it gave. A list of them (`encoder.layers` of
transformers, `resblocks` of open_clip, `blocks` of timm) that holds most of the parameters counts first, then the
children of any module, as in a ResNet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Call",
    "Trace",
    "find_layers",
    "first_tensor",
    "is_head",
    "trace_encoder",
    "used_parameters",
    "without_dropout",
]


@dataclass(frozen=True)
class Call:
    """One call of a module: the first tensor that it was given, and the first that it made of it, `packed` in a tuple
    or by itself; None for anything else."""

    name: str
    module: nn.Module
    given: Tensor | None
    made: Tensor | None
    packed: bool


@dataclass(frozen=True)
class Trace:
    """One pass of an encoder: its unit rows, its calls in the order in which they began, its parameters by id."""

    rows: Tensor
    calls: Sequence[Call]
    used: frozenset[int]

    def when(self, name: str) -> int | None:
        """When a module was first called, or the nearest one around it that was; None for the network itself."""
        first = {call.name: at for at, call in reversed(list(enumerate(self.calls)))}
        while name and name not in first:
            name = name.rpartition(".")[0]
        return first.get(name)


def trace_encoder(model: nn.Module, encode: Callable[..., Tensor], *inputs: Tensor) -> Trace:
    """Runs `encode` once, without dropout, and watches."""
    open_calls: list[tuple[str, nn.Module, Tensor | None]] = []
    made: dict[int, tuple[Tensor | None, bool]] = {}
    running: list[int] = []

    def begin(name: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        running.append(len(open_calls))
        open_calls.append((name, module, first_tensor((*args, *named.values()))))

    def end(output: Any) -> None:
        packed = isinstance(output, tuple)
        made[running.pop()] = (first_tensor(output if packed else (output,)), packed)

    with contextlib.ExitStack() as watching:
        watching.enter_context(without_dropout(model))
        for name, module in model.named_modules():
            if name:
                before = module.register_forward_pre_hook(
                    partial(begin, name),
                    with_kwargs=True,
                )
                after = module.register_forward_hook(lambda *call: end(call[2]))
                watching.callback(before.remove)
                watching.callback(after.remove)
        with torch.enable_grad():
            rows = encode(*inputs)
    calls = [Call(*call, *made[at]) for at, call in enumerate(open_calls)]
    return Trace(rows, calls, used_parameters(rows))


def used_parameters(rows: Tensor) -> frozenset[int]:
    """The ids of the parameters that `rows` were computed from, by their graph: those that can learn."""
    found, seen, waiting = set(), set(), [rows.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        waiting += [following for following, _ in node.next_functions]
    return frozenset(found)


def find_layers(model: nn.Module, trace: Trace) -> list[Call]:
    """The calls of the layers, in order; none if there is no sequence of them."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    counted = trace.used - embeddings
    every = sum(p.numel() for p in model.parameters() if id(p) in counted)

    def weigh(run: Sequence[Call]) -> int:
        return sum(p.numel() for call in run for p in call.module.parameters() if id(p) in counted)

    lists, others = [], []
    for name, module in model.named_modules():
        is_list = isinstance(module, nn.ModuleList | nn.Sequential)
        for run in _find_runs(name, module, trace):
            if is_list:
                lists.append(run)
            elif len(run) > 1:
                others.append(run)
    heavy = [run for run in lists if 2 * weigh(run) >= every]
    found = max(heavy or others, key=weigh, default=[])
    return found if found and weigh(found) else []


def _find_runs(name: str, module: nn.Module, trace: Trace) -> list[list[Call]]:
    """The direct children of a module that were called once each, one with what the other gave."""
    prefix = f"{name}." if name else ""
    children = {f"{prefix}{child}" for child, _ in module.named_children()}
    calls = [call for call in trace.calls if call.name in children]
    names = [call.name for call in calls]
    runs: list[list[Call]] = [[]]
    for call in calls:
        if names.count(call.name) > 1 or call.given is None or call.made is None:
            runs.append([])
            continue
        if runs[-1] and runs[-1][-1].made is not call.given:
            runs.append([])
        runs[-1].append(call)
    return [run for run in runs if run]


def is_head(call: Call, trace: Trace) -> bool:
    """Whether what a module made is what the rows were made of by nothing but their norm."""
    if call.made is None or call.given is None or call.made.shape != trace.rows.shape:
        return False
    if not any(id(p) in trace.used for p in call.module.parameters()):
        return False
    return torch.allclose(F.normalize(call.made.float(), dim=-1), trace.rows.float(), atol=1e-5)


def first_tensor(values: Sequence[Any]) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor)), None)


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
