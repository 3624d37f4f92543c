"""A published model that learns: cut between its layers without knowing how it is written.

Where to cut follows from what the network calls (trace.py). To stop after some layers, a hook on the next one takes
what it is given and leaves. To go on from there, the layers below hand on what they get, and the next one is given the
kept values in place of its own: all that the network does around its layers stays its own code. Each cut is compared
with the whole network before it is used.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import INITIAL_LOGIT_SCALE
from clip_qdrant.model_inputs.tokenization import TextTokenizer
from clip_qdrant_training.network.kinds.protocol import ParameterPlace, Part
from clip_qdrant_training.network.kinds.trace import (
    Call,
    Trace,
    find_layers,
    first_tensor,
    is_head,
    trace_encoder,
    used_parameters,
    without_dropout,
)

__all__ = ["PublishedNetwork", "find_scalar"]

logger = logging.getLogger(__name__)

_MATRICES = ("proj", "text_projection")  # heads of open_clip that are a parameter, no module; None stands for no head
_TEXTS = ("a photo", "two dogs run on the grass")


class PublishedNetwork:
    """Any network with `encode_image` and `encode_text`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model: Any = checkpoint.model
        device = next(self.model.parameters()).device
        pixels = _make_pixels(checkpoint.preprocessing.shape)
        texts = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)(_TEXTS)
        ids, mask = (torch.from_numpy(each).to(device) for each in texts)
        self.image = CutSide("image", self.model, self.model.encode_image, (pixels.to(device),))
        self.text = CutSide("text", self.model, self.model.encode_text, (ids, mask))
        scale, temperature = (find_scalar(self.model, name) for name in ("logit_scale", "temperature"))
        if scale is None:  # ALIGN has a temperature in its place; others have nothing
            start = INITIAL_LOGIT_SCALE if temperature is None else -math.log(float(temperature))
            scale = nn.Parameter(torch.tensor(start, device=device))
        self.logit_scale = scale
        self.logit_bias = find_scalar(self.model, "logit_bias")
        self._places: dict[str, ParameterPlace] = {**self.text.places(), **self.image.places()}
        for name, parameter in self.model.named_parameters():
            if parameter is self.logit_scale or parameter is self.logit_bias:
                self._places[name] = ParameterPlace("heads")

    @property
    def extra(self) -> Mapping[str, nn.Parameter]:
        return {} if any(p is self.logit_scale for p in self.model.parameters()) else {"logit_scale": self.logit_scale}

    def used(self) -> frozenset[int]:
        return self.image.used() | self.text.used()

    def place(self, name: str) -> ParameterPlace | None:
        return self._places.get(name)


class CutSide:
    """One encoder of a published model, as layers and a head. `example` is a batch of two."""

    def __init__(self, side: Part, model: nn.Module, encode: Callable[..., Tensor], example: tuple[Tensor, ...]):
        self.side, self.name = side, f"{side} encoder"
        self._model, self._encode, self._example = model, encode, example
        self._trace = trace_encoder(model, encode, *example)
        members = find_layers(model, self._trace)
        if len(members) > 1 and is_head(members[-1], self._trace):
            members.pop()
        self._members = members
        # What has no parameters, such as an activation, goes with the layer before it.
        self._starts = [at for at, call in enumerate(members) if at == 0 or any(True for _ in call.module.parameters())]
        self.depth = 1 + len(self._starts)
        self._head = self._find_module() or self._find_matrix()
        self._cuts: dict[int, bool] = {0: True}
        if self._head and not self.can_cut(self.depth):
            self._head = None
            self._cuts = {0: True}
        self._trace = _without_tensors(self._trace)

    def can_cut(self, layer: int) -> bool:
        """Whether both parts together give what the whole encoder gives; logs it if not."""
        if layer not in self._cuts:
            try:
                self._cuts[layer] = self._check_cut(layer)
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                logger.debug("the %s cannot be cut at layer %d", self.name, layer, exc_info=error)
                self._cuts[layer] = False
            if not self._cuts[layer] and layer < self.depth:
                logger.warning(
                    "what is frozen of the %s is computed in every step: its layers hand on more than one tensor",
                    self.name,
                )
        return self._cuts[layer]

    def run(self, start: int, stop: int, *inputs: Tensor) -> Tensor:
        if start == stop > 0:
            return inputs[0]
        with contextlib.ExitStack() as patches:
            if start:
                # What is kept may be rounded; the sums that run through the layers are float32, as in the whole.
                patches.enter_context(self._hand_on(start, inputs[0].float()))
                # One image for many: nothing but the layers below sees it.
                inputs = inputs[1:] or (self._example[0][:1],)
            reached = patches.enter_context(self._stop_at(stop))
            try:
                return self._encode(*inputs)
            except _Reached as end:
                if end is not reached:
                    raise
                assert end.value is not None
                return end.value

    def head(self, features: Tensor) -> Tensor:
        return features if self._head is None else self._head.apply(features)

    def used(self) -> frozenset[int]:
        with without_dropout(self._model), torch.enable_grad():
            return used_parameters(self._encode(*self._example))

    def eval_below(self, layer: int) -> None:
        head = self._trace.when(self._head.name) if self._head else None
        first = self._trace.when(self._members[self._starts[layer - 1]].name) if 0 < layer < self.depth else head
        calls = self._trace.calls if first is None else self._trace.calls[:first]
        for call in calls if layer else ():
            call.module.training = False

    def places(self) -> dict[str, ParameterPlace]:
        """Where each parameter of this side is."""
        found = {}
        for name, parameter in self._model.named_parameters():
            if id(parameter) in self._trace.used:
                found[name] = ParameterPlace("heads") if self._is_of_head(name) else self._place(name)
        return found

    def _place(self, name: str) -> ParameterPlace:
        assert self.side != "heads"
        for layer in range(len(self._starts), 0, -1):
            for call in self._members[self._starts[layer - 1] :]:
                if name.startswith(f"{call.name}."):
                    return ParameterPlace(self.side, self.side, layer)
        owner = name.rpartition(".")[0]
        when = self._trace.when(owner)
        last = self._trace.when(self._members[-1].name) if self._members else None
        around = any(call.name.startswith(f"{owner}.") for call in self._members)
        behind = when is not None and last is not None and when > last and not around
        return ParameterPlace(self.side, self.side, self.depth - 1 if behind else 0)

    def _is_of_head(self, name: str) -> bool:
        return self._head is not None and (name == self._head.name or name.startswith(f"{self._head.name}."))

    def _find_module(self) -> _ModuleHead | None:
        """The module that makes the rows, the outermost of those behind the layers."""
        last = self._trace.when(self._members[-1].name) if self._members else -1
        assert last is not None
        inside = tuple(f"{call.name}." for call in self._members)
        for call in self._trace.calls[last + 1 :]:
            around = any(member.name.startswith(f"{call.name}.") for member in self._members)
            if not around and not call.name.startswith(inside) and is_head(call, self._trace):
                return _ModuleHead(call.name, call.module)
        return None

    def _find_matrix(self) -> _MatrixHead | None:
        for name, parameter in self._model.named_parameters():
            owner, _, attribute = name.rpartition(".")
            if attribute in _MATRICES and parameter.ndim == 2 and id(parameter) in self._trace.used:
                return _MatrixHead(name, self._model.get_submodule(owner), attribute)
        return None

    @torch.no_grad()
    def _check_cut(self, layer: int) -> bool:
        with without_dropout(self._model):
            whole = self._encode(*self._example)
            kept = self.run(0, layer, *self._example)
            more = () if self.side == "image" else self._example
            rows = F.normalize(self.head(self.run(layer, self.depth, kept, *more)), dim=-1)
        return rows.shape == whole.shape and torch.allclose(rows, whole, rtol=1e-3, atol=1e-3)

    @contextlib.contextmanager
    def _hand_on(self, layer: int, values: Tensor) -> Iterator[None]:
        """Within the block the layers below `layer` do nothing, and it is given `values`."""
        first = self._starts[layer - 1]
        for call in self._members[:first]:
            object.__setattr__(call.module, "forward", _pack if call.packed else _pass)
        hook = self._members[first].module.register_forward_pre_hook(
            lambda _, args, named: _replace_first(args, named, values), with_kwargs=True
        )
        try:
            yield
        finally:
            hook.remove()
            for call in self._members[:first]:
                call.module.__dict__.pop("forward", None)

    @contextlib.contextmanager
    def _stop_at(self, layer: int) -> Iterator[_Reached | None]:
        """Within the block the encoder leaves where `layer` would begin, or its head."""
        head = self._head
        if layer < self.depth:
            module = self._members[self._starts[layer - 1]].module
        elif isinstance(head, _ModuleHead):
            module = head.module
        else:
            with head.take_off() if head else contextlib.nullcontext():
                yield None
            return
        end = _Reached()

        def leave(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            end.value = first_tensor((*args, *named.values()))
            raise end

        hook = module.register_forward_pre_hook(leave, with_kwargs=True)
        try:
            yield end
        finally:
            hook.remove()


class _ModuleHead:
    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module

    def apply(self, features: Tensor) -> Tensor:
        rows: Tensor = self.module(features)
        return rows


class _MatrixHead:
    """A matrix that an encoder multiplies its features by. Without it the encoder gives these, of norm 1, and the
    norm of a row changes nothing behind the product."""

    def __init__(self, name: str, owner: nn.Module, attribute: str) -> None:
        self.name, self._owner, self._attribute = name, owner, attribute

    def apply(self, features: Tensor) -> Tensor:
        matrix: Tensor = getattr(self._owner, self._attribute)
        return features @ matrix

    @contextlib.contextmanager
    def take_off(self) -> Iterator[None]:
        matrix = getattr(self._owner, self._attribute)
        setattr(self._owner, self._attribute, None)
        try:
            yield
        finally:
            setattr(self._owner, self._attribute, matrix)


class _Reached(Exception):
    """The encoder has come to where it is to stop, with `value`."""

    value: Tensor | None = None


def _pass(*args: Any, **named: Any) -> Tensor | None:
    """The forward pass of a layer that does nothing."""
    return first_tensor((*args, *named.values()))


def _pack(*args: Any, **named: Any) -> tuple[Tensor | None]:
    return (_pass(*args, **named),)


def _replace_first(
    args: tuple[Any, ...], named: dict[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another first tensor."""
    given = first_tensor((*args, *named.values()))
    return (
        tuple(value if each is given else each for each in args),
        {name: value if each is given else each for name, each in named.items()},
    )


def find_scalar(model: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter of one number that is called so, the outermost if there are several."""
    found = [
        (path.count("."), parameter)
        for path, parameter in model.named_parameters()
        if path.rpartition(".")[2] == name and parameter.numel() == 1
    ]
    return min(found, key=lambda each: each[0])[1] if found else None


def _make_pixels(shape: tuple[int, ...]) -> Tensor:
    """Two images of noise: uint8 (2, *shape)."""
    return torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _without_tensors(trace: Trace) -> Trace:
    """The trace without what takes memory."""
    calls: Sequence[Call] = [Call(call.name, call.module, None, None, call.packed) for call in trace.calls]
    return Trace(torch.empty(0), calls, trace.used)
