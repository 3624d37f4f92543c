"""Encoders on ONNX Runtime. Imports no torch: searching must start quickly.

Convolutions of small models do not scale over threads, images do: each call of a session runs on one thread, and the
images of a batch are spread over as many threads as there are cores (2.3 times the images/s of one call with two
threads, EfficientNet-Lite0 on 2 cores).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from clip_qdrant.errors import ExportError, first_line
from clip_qdrant.runtime import cpu_count
from clip_qdrant.runtime.sealed_json import read_sealed

__all__ = ["EXPORT_FORMAT", "OnnxRuntime"]

EXPORT_FORMAT = 2
_IMAGES_A_CALL = 4  # larger calls leave the cache: 160 images/s at 1 to 8, 100 at 32
_TEXTS_A_CALL = 16


class OnnxRuntime:
    """The two graphs of an export folder. Sessions open at their first use; every method is thread-safe.

    Raises ExportError when a file is missing, damaged or of another format.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self.folder = folder
        self.threads = threads or cpu_count()
        self.meta = _read_meta(folder)
        self._lock = threading.Lock()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._pool: ThreadPoolExecutor | None = None

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, S, S, 3) -> float32 (n, dim), unit rows."""
        run = self._session("image", threads=1).run
        return self._spread(lambda rows: run(None, {"pixels": pixels[rows]})[0], len(pixels), _IMAGES_A_CALL)

    def embed_tokens(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """int64 ids and mask (n, length) -> float32 (n, dim), unit rows."""
        run = self._session("text", threads=self.threads).run
        return self._spread(lambda rows: run(None, {"ids": ids[rows], "mask": mask[rows]})[0], len(ids), _TEXTS_A_CALL)

    def _spread(self, run: Callable[[slice], np.ndarray], n: int, step: int) -> np.ndarray:
        parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        if not parts:
            return np.empty((0, int(self.meta["dim"])), dtype=np.float32)
        if len(parts) == 1:
            return run(parts[0])
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="embed")
        return np.concatenate(list(self._pool.map(run, parts)))

    def _session(self, name: str, *, threads: int) -> onnxruntime.InferenceSession:
        with self._lock:
            if name not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                options.inter_op_num_threads = 1
                options.log_severity_level = 3
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                graph = self.read(f"{name}.onnx")
                self._sessions[name] = _open_session(graph, options, self.folder / f"{name}.onnx")
            return self._sessions[name]

    def is_whole(self) -> bool:
        """Whether every file is there as it was written."""
        try:
            return all(self.read(name) for name in self.meta["sha256"])
        except ExportError:
            return False

    def read(self, name: str) -> bytes:
        """The bytes of a file of the export, as they were written; raises ExportError for any others."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise ExportError(f"cannot read {self.folder / name}: {error}") from error
        if hashlib.sha256(content).hexdigest() != self.meta["sha256"].get(name):
            raise ExportError(f"{self.folder / name} is damaged")
        return content


def _open_session(graph: bytes, options: onnxruntime.SessionOptions, path: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors share no base, as for a graph of a newer ONNX Runtime
        raise ExportError(f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {first_line(error)}") from error


def _read_meta(folder: Path) -> dict[str, Any]:
    """What export_onnx wrote. A file of another export, or of another format, is none of this folder's."""
    meta = read_sealed(folder / "meta.json")
    if meta.get("format") != EXPORT_FORMAT:
        raise ExportError(f"{folder} has export format {meta.get('format')!r}, this version reads {EXPORT_FORMAT}")
    return meta
