"""What runs an encoder: ONNX Runtime on a CPU, torch on a GPU or by choice. Importing this imports neither."""

from __future__ import annotations

import os

__all__ = ["cpu_count"]


def cpu_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
