"""One store with collections of this package and of other programs, and an MCP server over it, for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mcp_store import Shelf, open_shelf


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with open_shelf(tmp_path_factory.mktemp("mcp")) as made:
        yield made
