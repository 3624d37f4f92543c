"""Fixtures of the tests of integrations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def closed_event_loop() -> Iterator[None]:
    """A current event loop, closed after the test: pytest-asyncio makes one where there is none, and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
