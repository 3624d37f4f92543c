"""ClipEmbedder: images and texts to unit vectors of one space, by the dual encoder of a checkpoint.

On a CPU a ClipEmbedder runs on ONNX Runtime, from the graphs that its checkpoint carries, or from an export that is
made once in the user's cache folder. torch is imported for such an export, on a GPU, or with runtime="torch".
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from PIL import Image

from clip_qdrant.calibration.curves import Calibration
from clip_qdrant.content import BUNDLED, bundled_checkpoint
from clip_qdrant.embedder_protocol import check_texts
from clip_qdrant.errors import CheckpointError, ConfigError, ExportError
from clip_qdrant.images.load import ImageInput, Limits, is_one_image, load_image
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization
from clip_qdrant.model_names import leave_out_folders
from clip_qdrant.runtime import cpu_count
from clip_qdrant.runtime.choice import choose
from clip_qdrant.runtime.export_cache import ExportCache
from clip_qdrant.runtime.onnx import OnnxRuntime
from clip_qdrant.torch_extra import require_torch
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.user_folders import default_cache_dir

if TYPE_CHECKING:
    from clip_qdrant.model.checkpoint import Checkpoint

__all__ = ["ClipEmbedder"]

logger = logging.getLogger(__name__)
_TEXTS_A_BATCH = 64
Progress = Callable[[int], None]


class _Runtime(Protocol):
    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray: ...
    def embed_tokens(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray: ...


class ClipEmbedder:
    """A dual encoder that embeds images and texts. Made by `load` or `fit`. Thread-safe."""

    def __init__(
        self,
        runtime: _Runtime,
        meta: Mapping[str, Any],
        tokenizer: str,
        *,
        checkpoint: Callable[[], Checkpoint],
        rebuild: Callable[[], OnnxRuntime] | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        limits: Limits | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name  # as it is given to `load`, without the folders that it lies in
        self.preprocessing = Preprocessing.from_dict(meta["preprocessing"])
        self.trained_on: tuple[str, ...] = tuple(meta["trained_on"])
        self.metrics: Mapping[str, float] = dict(meta["metrics"])
        self.prompts = Prompts.from_dict(meta.get("prompts"))
        told = meta.get("calibration")
        self.calibration = None if told is None else Calibration.from_dict(told)
        if self.prompts is not None and len(self.prompts.bias) not in (0, meta["dim"]):
            raise CheckpointError(
                f"the bias of the model's prompts has {len(self.prompts.bias)} numbers, and its vectors {meta['dim']}: "
                "its file is damaged"
            )
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
        self.batch_size = batch_size
        self.limits = limits or Limits()
        self._dim = int(meta["dim"])
        self._fingerprint = str(meta["fingerprint"])
        self._runtime = runtime
        self._checkpoint = checkpoint
        self._rebuild = rebuild
        self._rebuilding = threading.Lock()
        self._threads = threads or cpu_count()
        self._tokenize = TextTokenizer(tokenizer, Tokenization(**meta["tokenization"]), warns=True)

    @classmethod
    def load(
        cls,
        model: str | Path = BUNDLED,
        *,
        runtime: Literal["auto", "onnx", "torch"] = "auto",
        device: str = "auto",
        threads: int | None = None,
        batch_size: int = 32,
        limits: Limits | None = None,
        cache_dir: str | Path | None = None,
        compile: bool = False,
    ) -> ClipEmbedder:
        """An embedder from "bundled", the path of a checkpoint, "hf:<name or folder>" or "open_clip:<name>".

        `runtime` "auto" takes torch on a GPU and ONNX Runtime on a CPU; `device` is a torch device or "auto".
        `threads` bounds the cores that ONNX Runtime and decoding use; for torch see torch.set_num_threads.
        `cache_dir` keeps the ONNX exports; by default the user's cache folder. `compile` has torch compile the image
        encoder for batches of `batch_size`: a minute at the start, for long runs on a GPU.

        Raises CheckpointError, ExportError, and ConfigError for arguments that contradict each other.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads is {threads}: it must be at least 1")
        device, runtime = choose(device, runtime)
        source = str(bundled_checkpoint() if model == BUNDLED else model)
        name = leave_out_folders(str(model))
        if runtime == "torch":
            return cls._on_torch(
                _read_checkpoint(source), device, batch_size=batch_size, limits=limits, compile=compile, name=name
            )
        if compile:
            raise ConfigError("compile is for torch; on ONNX Runtime there is nothing to compile: set runtime to torch")
        cache = ExportCache(Path(cache_dir) if cache_dir else default_cache_dir())
        file = cache.open(source)
        onnx = OnnxRuntime(file, threads=threads)
        return cls(
            onnx,
            onnx.meta,
            file.description.tokenizer,
            checkpoint=lambda: _read_checkpoint(source),
            rebuild=lambda: OnnxRuntime(cache.rebuild(source), threads=threads),
            threads=threads,
            batch_size=batch_size,
            limits=limits,
            name=name,
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, *, device: str = "auto", batch_size: int = 32, limits: Limits | None = None
    ) -> ClipEmbedder:
        """An embedder on torch of a checkpoint in memory. Save it and `load` the file to run on ONNX Runtime."""
        return cls._on_torch(checkpoint, choose(device, "torch")[0], batch_size=batch_size, limits=limits)

    @classmethod
    def _on_torch(
        cls,
        checkpoint: Checkpoint,
        device: str,
        *,
        batch_size: int,
        limits: Limits | None,
        compile: bool = False,
        name: str | None = None,
    ) -> ClipEmbedder:
        from clip_qdrant.runtime.torch import TorchRuntime

        return cls(
            TorchRuntime(checkpoint, device=device, batch_size=batch_size, compile=compile),
            checkpoint.meta(),
            checkpoint.tokenizer,
            checkpoint=lambda: checkpoint,
            batch_size=batch_size,
            limits=limits,
            name=name,
        )

    @classmethod
    def fit(cls, pairs: Any, **options: Any) -> ClipEmbedder:
        """Train on image-caption pairs; see `clip_qdrant_training.start` for what `pairs` and the options may be."""
        from clip_qdrant_training import fit

        return cls.from_checkpoint(fit(pairs, **options), device=options.get("device", "auto"))

    def save(self, path: str | Path, *, half: bool = False, graphs: bool = True) -> str:
        """Write the checkpoint (float16 with `half`) and return the fingerprint of the file.

        With its `graphs` the file is opened without torch and without an export; making them takes 10 to 60 s.
        Raises CheckpointError, MissingExtra.
        """
        require_torch("saving a model")
        from clip_qdrant.model.saving import save_checkpoint
        from clip_qdrant.runtime.onnx_export import make_graphs

        checkpoint = self._checkpoint()
        self._check_same(checkpoint.fingerprint())
        return save_checkpoint(checkpoint, path, half=half, graphs=make_graphs if graphs else None)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """sha256 of weights, configuration, preprocessing and tokenizer: says which embedder made a vector."""
        return self._fingerprint

    @property
    def image_size(self) -> int:
        """Side in pixels of what `preprocess` returns."""
        return self.preprocessing.image_size

    @property
    def needed_side(self) -> int | None:
        """The short side in pixels that images keep at least when decoding reduces them; None: they are not reduced."""
        return self.preprocessing.needed_side

    @property
    def runtime(self) -> str:
        """What runs the encoders: "onnx" or "torch"."""
        return "onnx" if isinstance(self._runtime, OnnxRuntime) else "torch"

    def __repr__(self) -> str:
        return f"ClipEmbedder(dim={self.dim}, runtime={self.runtime!r}, fingerprint={self.fingerprint[:12]!r})"

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        """An upright RGB image -> uint8 of the shape that `embed_pixels` takes, mostly (image_size, image_size, 3)."""
        return self.preprocessing(rgb)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, image_size, image_size, 3) -> float32 (n, dim), unit rows."""
        shape = self.preprocessing.shape
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            raise ConfigError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (n, {str(shape)[1:]}")
        return self._run(lambda runtime: runtime.embed_pixels(pixels))

    def embed_images(self, images: Iterable[ImageInput], *, progress: Progress | None = None) -> np.ndarray:
        """Paths, bytes, PIL images or uint8 arrays -> float32 (n, dim), unit rows. Raises ImageError, SourceError."""
        rows = list(self.iter_embed_images(images, progress=progress))
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

    def iter_embed_images(
        self, images: Iterable[ImageInput], *, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """One float32 (dim,) row an image, in order, in memory bounded by the batch size.

        `progress` is called with the number of images done after each batch. Raises ImageError, SourceError.
        """
        numbered = enumerate([cast("ImageInput", images)] if is_one_image(images) else images)
        done = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            while batch := list(itertools.islice(numbered, self.batch_size)):
                rows = self.embed_pixels(np.stack(list(pool.map(self._prepare, batch))))
                yield from rows
                done += len(rows)
                if progress:
                    progress(done)

    def embed_texts(self, texts: Iterable[str], *, progress: Progress | None = None) -> np.ndarray:
        """n texts -> float32 (n, dim), unit rows. Texts beyond the encoder's length are truncated."""
        texts = check_texts(texts)
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: less padding
        for start in range(0, len(order), _TEXTS_A_BATCH):
            chosen = order[start : start + _TEXTS_A_BATCH]
            ids, mask = self._tokenize([texts[i] for i in chosen])
            rows[chosen] = self._run(partial(_embed_tokens, ids=ids, mask=mask))
            if progress:
                progress(start + len(chosen))
        return rows

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """How many tokens the text encoder reads of each text, those it puts at the ends included."""
        checked = check_texts(texts)
        return [int(number) for number in self._tokenize(checked)[1].sum(axis=1)] if checked else []

    def _prepare(self, numbered: tuple[int, ImageInput]) -> np.ndarray:
        number, image = numbered
        name = None if isinstance(image, (str, os.PathLike)) else f"image {number}"
        return self.preprocess(load_image(image, target=self.needed_side, limits=self.limits, name=name).rgb)

    def _run(self, embed: Callable[[_Runtime], np.ndarray]) -> np.ndarray:
        runtime = self._runtime
        try:
            return embed(runtime)
        except (ExportError, CheckpointError) as error:
            if self._rebuild is None:
                raise
            with self._rebuilding:
                if self._runtime is runtime:  # no other thread has rebuilt it
                    logger.warning("exporting anew: %s", error)
                    rebuilt = self._rebuild()
                    self._check_same(str(rebuilt.meta["fingerprint"]))
                    self._runtime = rebuilt
            return embed(self._runtime)

    def _check_same(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise CheckpointError(
                f"the model was {self.fingerprint[:12]} when it was loaded, and what lies in its place now is "
                f"{fingerprint[:12]}: load it again"
            )


def _read_checkpoint(source: str) -> Checkpoint:
    require_torch(f"opening {mask_secrets(source)} on torch")
    from clip_qdrant.model.loading import read_checkpoint  # imports torch

    return read_checkpoint(source)


def _embed_tokens(runtime: _Runtime, *, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return runtime.embed_tokens(ids, mask)
