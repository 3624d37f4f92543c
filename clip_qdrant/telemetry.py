"""Other libraries report on those who use them. Switched off here, for every process that imports one of our packages.

Each package calls this first thing, since these variables are read when the libraries are imported.
"""

from __future__ import annotations

import os

__all__ = ["SWITCHES", "disable_telemetry"]

SWITCHES = {
    # From 1.29 on ONNX Runtime keeps an id of the device in the user's cache folder and sends events to its maker.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # transformers asks a service of the hub to convert a model whose weights are a pickle.
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Haystack keeps an id of the user in the home folder and reports the components of pipelines that run.
    "HAYSTACK_TELEMETRY_ENABLED": "false",
}


def disable_telemetry() -> None:
    """Sets the variables of the environment that the user has not set, for this process and those it starts."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
