"""Encoders on ONNX Runtime. Imports no torch: searching must start quickly.

Convolutions of small models do not scale over threads, images do: each call of a session runs on one thread, and the
images of a batch are spread over as many threads as there are cores (2.3 times the images/s of one call with two
threads, EfficientNet-Lite0 on 2 cores).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from clip_qdrant.checkpoint_file.read import Side
from clip_qdrant.errors import CheckpointError, ExportError, first_line
from clip_qdrant.runtime import cpu_count

__all__ = ["EncoderSource", "OnnxRuntime", "weight_file"]

_IMAGES_A_CALL = 4  # larger calls leave the cache: 160 images/s at 1 to 8, 100 at 32
_TEXTS_A_CALL = 16
_NO_FOLDER = "/dev/null/none"


class EncoderSource(Protocol):
    """Two encoders as ONNX models without weights, and their weights: a checkpoint file, or what will be one."""

    @property
    def path(self) -> Path: ...
    def meta(self) -> dict[str, Any]: ...  # as Checkpoint.meta
    def read_graph(self, side: Side) -> bytes: ...
    def list_weights(self, side: Side) -> Sequence[str]: ...
    def read_weight(self, name: str) -> np.ndarray: ...


class OnnxRuntime:
    """The encoders of a source. Sessions open at their first use; every method is thread-safe.

    Raises ExportError for a graph that this ONNX Runtime cannot open, CheckpointError for a damaged file.
    """

    def __init__(self, source: EncoderSource, *, threads: int | None = None) -> None:
        self.source = source
        self.threads = threads or cpu_count()
        self.meta = source.meta()
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

    def open_sessions(self) -> None:
        """Opens both sessions, which otherwise happens at their first use."""
        self._session("image", threads=1)
        self._session("text", threads=self.threads)

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

    def _session(self, side: Side, *, threads: int) -> onnxruntime.InferenceSession:
        with self._lock:
            if side not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                options.inter_op_num_threads = 1
                options.log_severity_level = 3
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                # A graph gets its weights from us; one that names files of its own finds none.
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
                self._sessions[side] = self._open_session(side, options)
            return self._sessions[side]

    def _open_session(self, side: Side, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        graph, weights = self.source.read_graph(side), self.source.list_weights(side)
        try:
            arrays = [self.source.read_weight(name) for name in weights]
            contents = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
            # It copies what it keeps, so that nothing of a file stays mapped, and lets go of what it packs anew.
            options.add_external_initializers_from_files_in_memory(
                [weight_file(name) for name in weights], contents, [len(content) for content in contents]
            )
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except CheckpointError:
            raise
        except Exception as error:  # its classes of errors share no base, as for a graph of a newer ONNX Runtime
            version = onnxruntime.__version__
            raise ExportError(
                f"ONNX Runtime {version} cannot open the {side} encoder of {self.source.path}: {first_line(error)}"
            ) from error


def weight_file(name: str) -> str:
    """What a graph calls the file of a weight: no file that could be there, but what is given under this name."""
    return f"weights/{name}"
