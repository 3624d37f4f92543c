"""Which device and which runtime: decided without importing torch where there is no sign of a GPU."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Literal

from clip_qdrant.errors import ConfigError, first_line
from clip_qdrant.torch_extra import has_torch, require_torch

__all__ = ["choose"]


def choose(device: str, runtime: str) -> tuple[str, Literal["onnx", "torch"]]:
    """The device and the runtime to use for what was asked, "auto" included.

    Raises ConfigError for a device that cannot be used, an unknown runtime, or ONNX Runtime on a GPU, and
    MissingExtra where torch is needed and not installed.
    """
    if runtime not in ("auto", "onnx", "torch"):
        raise ConfigError(f"runtime is {runtime!r}: auto, onnx and torch are possible")
    if device == "auto":
        device = "cpu" if runtime == "onnx" or not _has_signs_of_gpu() or not has_torch() else _pick_device()
    elif device.partition(":")[0] == "cpu":
        device = "cpu"
    else:
        require_torch(f"device {device!r}")
        import torch

        try:
            torch.empty(1, device=device).tolist()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"device {device!r} cannot be used: {first_line(error)}") from error
    if runtime == "onnx" and device != "cpu":
        raise ConfigError(f"runtime 'onnx' runs on the CPU, not on {device!r}: set runtime to torch")
    if runtime == "torch":
        require_torch("runtime 'torch'")
    if runtime == "torch" or device != "cpu":
        return device, "torch"
    return device, "onnx"


def _has_signs_of_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


def _pick_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
