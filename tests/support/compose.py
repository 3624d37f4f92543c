"""docker-compose.yml as Compose reads it: variables filled in, and one file laid over another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "docker-compose.yml"
CLUSTER = ROOT / "deploy" / "compose.cluster.yml"

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}")


def read_compose(*files: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The model of one file, or of several, each over those before; no variable is set but those of `environment`."""
    model: dict[str, Any] = {}
    for file in files or (BASE,):
        text = file.read_text(encoding="utf-8")
        model = _lay_over(model, _fill_in(yaml.safe_load(text), environment or {}))
    for service in model["services"].values():
        service["environment"] = list_environment(service.get("environment", {}), environment or {})
    return model


def list_environment(given: Any, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container: one without a value is handed on, if it is set."""
    if isinstance(given, dict):
        return {name: str(value) for name, value in given.items()}
    pairs = [entry.partition("=") for entry in given]
    return {
        name: value if equals else environment[name] for name, equals, value in pairs if equals or name in environment
    }


def _fill_in(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return _VARIABLE.sub(lambda found: _value(found, environment), node)
    if isinstance(node, dict):
        return {name: _fill_in(value, environment) for name, value in node.items()}
    return [_fill_in(value, environment) for value in node] if isinstance(node, list) else node


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    return "$" if found[1] is None else environment.get(found[1]) or found[2] or ""


def _lay_over(below: Any, above: Any) -> Any:
    """As Compose merges: mappings by key, lists (environment, volumes) one behind the other, a command as a whole."""
    if isinstance(below, dict) and isinstance(above, dict):
        merged = {name: _lay_over(value, above[name]) if name in above else value for name, value in below.items()}
        merged |= {name: value for name, value in above.items() if name not in below}
        return {**merged, **({"command": above["command"]} if "command" in above else {})}
    return below + above if isinstance(below, list) and isinstance(above, list) else above
