"""run_in_thread: the async twin of a method, which runs it in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["run_in_thread"]

_Self = TypeVar("_Self")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def run_in_thread(
    method: Callable[Concatenate[_Self, _Parameters], _Result],
) -> Callable[Concatenate[_Self, _Parameters], Coroutine[Any, Any, _Result]]:
    """An async method with the arguments and the result of `method`, or of what a subclass has in its place.

    The event loop is free meanwhile, as far as the store is: embedded without a process of its own, a search holds the
    interpreter's lock (docs/embedded.md). One that is cancelled goes on in its thread.
    """
    name = method.__name__

    @functools.wraps(method)
    async def run(self: _Self, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        result: _Result = await asyncio.to_thread(getattr(self, name), *args, **kwargs)
        return result

    run.__name__ = f"a{name}"
    run.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}"
    run.__doc__ = f"`{name}` for async code."
    return run
