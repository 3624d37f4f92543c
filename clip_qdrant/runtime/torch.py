"""Encoders on torch: a GPU, or a CPU by choice. bfloat16 and channels_last on cuda; normalisation on the device."""

from __future__ import annotations

import copy
import threading

import numpy as np
import torch

from clip_qdrant.model.checkpoint import Checkpoint

__all__ = ["TorchRuntime"]


class TorchRuntime:
    """A checkpoint's network on one device. Every method is thread-safe: calls take turns."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu") -> None:
        self.device = torch.device(device)
        model = checkpoint.model
        self._model = model if self.device.type == "cpu" else copy.deepcopy(model).to(self.device)
        if self.device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last)
        self._lock = threading.Lock()

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, S, S, 3) -> float32 (n, dim), unit rows."""
        return self._run(self._model.encode_image, torch.from_numpy(np.ascontiguousarray(pixels)))

    def embed_tokens(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """int64 ids and mask (n, length) -> float32 (n, dim), unit rows."""
        return self._run(self._model.encode_text, torch.from_numpy(ids), torch.from_numpy(mask))

    def _run(self, encode: object, *inputs: torch.Tensor) -> np.ndarray:
        assert callable(encode)
        cuda = self.device.type == "cuda"
        with self._lock, torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            rows = encode(*(tensor.to(self.device, non_blocking=cuda) for tensor in inputs)).float()
            # bfloat16 leaves norms off by up to 1e-2; the collection expects 1.
            return np.asarray(torch.nn.functional.normalize(rows, dim=-1).cpu().numpy(), dtype=np.float32)
