"""A checkpoint file, opened without torch: its description, its graphs, and its weights when they are asked for."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from clip_qdrant.checkpoint_file.archive import Archive
from clip_qdrant.checkpoint_file.description import CheckpointDescription, describe, read_description
from clip_qdrant.checkpoint_file.fingerprint import compute_fingerprint
from clip_qdrant.checkpoint_file.unpickle import StoredTensor
from clip_qdrant.checkpoint_file.values import check_values
from clip_qdrant.errors import CheckpointError, ConfigError, first_line
from clip_qdrant.model_inputs.probe import probe_tokenizer
from clip_qdrant.model_names import suggest_name
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["GRAPHS_FORMAT", "CheckpointFile", "Graph", "Graphs", "Side"]

GRAPHS_FORMAT = 1
Side = Literal["image", "text"]
_GROWTH = 4  # bytes of weights for a byte of a file in which several of them share what is stored


@dataclass(frozen=True)
class Graph:
    """One encoder as an ONNX model without its weights."""

    stored: StoredTensor
    sha256: str
    weights: tuple[str, ...]  # those of the file that it takes, by name


@dataclass(frozen=True)
class Graphs:
    """The encoders that a file carries, and what else is known of its network without building it."""

    image: Graph
    text: Graph
    identity: Mapping[str, Any]  # what of the network goes into the fingerprint, besides its weights
    dim: int
    vocabulary: int  # how many token ids the text encoder knows
    made_with: str


class CheckpointFile:
    """An open checkpoint file of ours. It stays what it was when it was opened; thread-safe.

    `graphs` is None for a file that carries none. Raises CheckpointError for a file that is missing, foreign, damaged
    where it describes itself, or that does more than describe.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _reading(path):
            self._archive = Archive(self.path)
            content = self._archive.read_content()
            if not isinstance(content, dict) or "format" not in content:
                _refuse("it is none of ours")
        self.description: CheckpointDescription = read_description(content, path)
        with _reading(path):
            self.weights: Mapping[str, StoredTensor] = self._take_weights(content["weights"])
            told = content.get("graphs")
            self.graphs = None if told is None else self._read_graphs(told)

    def _take_weights(self, weights: Mapping[Any, Any]) -> dict[str, StoredTensor]:
        records: dict[str, int] = {}
        for name, tensor in weights.items():
            if type(name) is not str or not isinstance(tensor, StoredTensor):
                raise CheckpointError(f"its weights are no plain tensors: {name}")
            self._archive.check_tensor(tensor)
            records[tensor.record] = self._archive.size_of(tensor)
        needed = sum(4 * tensor.size for tensor in weights.values())
        if needed > _GROWTH * sum(records.values()) + (64 << 20):
            raise CheckpointError(f"its weights are {needed:,} bytes, of which {sum(records.values()):,} are there")
        return dict(weights)

    def _read_graphs(self, told: Any) -> Graphs | None:
        """None for graphs of another format: this version makes its own."""
        if not isinstance(told, dict) or told.get("format") != GRAPHS_FORMAT:
            return None
        try:
            check_values(told["identity"])
            return Graphs(
                image=self._read_graph(told["image"]),
                text=self._read_graph(told["text"]),
                identity=dict(told["identity"]),
                dim=int(told["dim"]),
                vocabulary=int(told["vocabulary"]),
                made_with=str(told["made_with"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"its graphs are not whole: {first_line(error)}") from error

    def _read_graph(self, told: Mapping[str, Any]) -> Graph:
        check_values(told["sha256"], told["weights"])
        if not isinstance(told["graph"], StoredTensor) or told["graph"].kind != "Byte":
            raise CheckpointError("its graphs are no bytes")
        self._archive.check_tensor(told["graph"])
        if unknown := [name for name in told["weights"] if name not in self.weights]:
            raise CheckpointError(f"its graphs need weights that are not there: {unknown[0]}")
        return Graph(told["graph"], str(told["sha256"]), tuple(told["weights"]))

    def meta(self) -> dict[str, Any]:
        """What an embedder must know, as `Checkpoint.meta`. For a file with graphs."""
        assert self.graphs is not None
        return {
            "fingerprint": self.description.fingerprint,
            "dim": self.graphs.dim,
            **describe(self.description),
        }

    def read_graph(self, side: Side) -> bytes:
        """The ONNX model of one encoder. Raises CheckpointError where it is not what was written."""
        assert self.graphs is not None
        graph: Graph = getattr(self.graphs, side)
        content = self._read(graph.stored).tobytes()
        if hashlib.sha256(content).hexdigest() != graph.sha256:
            raise CheckpointError(f"{self.path} is damaged: its {side} graph is not what was written")
        return content

    def list_weights(self, side: Side) -> tuple[str, ...]:
        """The names of the weights that the graph of an encoder takes."""
        assert self.graphs is not None
        graph: Graph = getattr(self.graphs, side)
        return graph.weights

    def read_weight(self, name: str) -> np.ndarray:
        """One tensor: float32 whatever float it is stored as, whole numbers as they are. Raises CheckpointError."""
        value = self._read(self.weights[name])
        return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value

    def check(self) -> None:
        """Raises CheckpointError unless everything is what the fingerprint was made of, and the tokenizer harmless.

        Reads the whole file.
        """
        assert self.graphs is not None
        self.read_graph("image")
        self.read_graph("text")
        description = self.description
        probe_tokenizer(description.tokenizer, description.tokenization, self.graphs.vocabulary, self.path)
        found = compute_fingerprint(
            self.graphs.identity,
            description.preprocessing,
            description.tokenization,
            description.tokenizer,
            ((name, self.read_weight(name)) for name in sorted(self.weights)),
        )
        if found != description.fingerprint:
            raise CheckpointError(f"{self.path} is damaged: its weights are not those its fingerprint was made of")

    def _read(self, tensor: StoredTensor) -> np.ndarray:
        try:
            return self._archive.read(tensor)
        except OSError as error:
            raise CheckpointError(f"cannot read the checkpoint {self.path}: {first_line(error)}") from error


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Whatever an archive raises becomes a CheckpointError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        where = mask_secrets(str(path))
        raise CheckpointError(f"there is no checkpoint at {where}{suggest_name(str(path))}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except (CheckpointError, ConfigError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read safely (damaged, foreign, or it bears a pickle): "
            f"{first_line(error)}"
        ) from error


def _refuse(why: str) -> NoReturn:
    raise CheckpointError(why)
