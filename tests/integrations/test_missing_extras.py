"""An integration without its extra says which one is missing."""

from __future__ import annotations

import importlib
import sys

import pytest

from clip_qdrant.errors import MissingExtra


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index.core", "llama-index")],
)
def test_an_integration_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, extra: str
) -> None:
    home = f"clip_qdrant.integrations.{name}"
    for module in [module for module in sys.modules if module == home or module.startswith(f"{home}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed

    with pytest.raises(MissingExtra, match=rf"pip install 'clip-qdrant\[{extra}\]'"):
        importlib.import_module(home)
