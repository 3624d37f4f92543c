"""Asking the user before something is deleted."""

from __future__ import annotations

import sys

import typer

from clip_qdrant.errors import ConfigError

__all__ = ["confirm"]


def confirm(question: str) -> bool:
    """Whether the user says yes. Raises ConfigError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody can be asked here: give --yes if it is meant")
    return typer.confirm(question)
