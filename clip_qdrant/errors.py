"""Every exception the package raises, in one tree.

    ClipQdrantError
    ├── ConfigError (ValueError)        a setting or an argument is wrong
    ├── MissingExtra (ImportError)      an optional dependency is not installed
    ├── ImageError                      one image cannot be used; `reason` is a stable short word
    │   ├── EmptyImage                  no bytes
    │   ├── NotAnImage                  bytes of no known image format
    │   ├── UnsupportedImage            an image, in a format or mode that is not decoded here
    │   ├── TruncatedImage              the data ends early or is damaged
    │   └── ImageTooLarge               over the limit of bytes or pixels
    ├── MetadataError (ValueError)      a metadata value does not fit its field
    ├── FilterError (ValueError)        a where expression is wrong; `column` points into its text
    ├── QueryError (ValueError)         a query cannot be run as asked
    ├── ModelError
    │   ├── CheckpointError             a checkpoint is damaged, foreign or incomplete
    │   ├── ExportError                 a model could not be exported to ONNX
    │   └── FingerprintMismatch         a collection was made by another embedder
    ├── TrainingError                   a training run or its data cannot go on
    ├── DiskFull                        a file of this package's own finds no room on its disk
    ├── SourceError                     a source, or one object of it, cannot be listed or read
    │   ├── SourceUnavailable           it does not answer any more
    │   ├── DamagedArchive              a tar file that is cut off, or not what it should be
    │   └── AddressRefused              a host that is not known, or at an address that is not public
    ├── StateError                      the state file of ingestion cannot be used
    ├── ServiceError                    the HTTP service does not answer a request as asked
    │   ├── Unauthorized                no key, or one that is not known
    │   ├── Forbidden                   the key of the request does not allow this
    │   ├── NotServed                   what is asked for is nothing that the service gives away
    │   ├── RequestTooLarge             over the limit of bytes or items of one request
    │   ├── IngestRunning               a run of ingestion goes on, and a second one has to wait
    │   ├── Overloaded                  too much waits already; `retry_after` seconds later it may do
    │   └── DeadlineExceeded            it took longer than one request may take
    └── StoreError
        ├── StoreUnavailable            no answer, or refused credentials
        ├── StoreLocked                 an embedded store is open in another process
        ├── StoreDamaged                files of an embedded store are damaged or gone
        ├── StoreFull                   the disk of an embedded store has no room for a write
        ├── TooFewIndexes               a server allows fewer payload indexes than ingestion needs
        ├── CollectionNotFound (ValueError)
        ├── CollectionExists (ValueError)
        ├── PointNotFound (KeyError)    a change of a point that is not there
        ├── InvalidRequest (ValueError) arguments of a call that make no request
        │   └── InvalidPoint            a vector or id the store must not be given
        └── UnsupportedByEdge (NotImplementedError)   the embedded engine cannot do it; a Qdrant server can

A message says what failed, with which value, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "AddressRefused",
    "CheckpointError",
    "ClipQdrantError",
    "CollectionExists",
    "CollectionNotFound",
    "ConfigError",
    "DamagedArchive",
    "DeadlineExceeded",
    "DiskFull",
    "EmptyImage",
    "ExportError",
    "FilterError",
    "FingerprintMismatch",
    "Forbidden",
    "ImageError",
    "ImageTooLarge",
    "IngestRunning",
    "InvalidPoint",
    "InvalidRequest",
    "MetadataError",
    "MissingExtra",
    "ModelError",
    "NotAnImage",
    "NotServed",
    "Overloaded",
    "PointNotFound",
    "QueryError",
    "RequestTooLarge",
    "ServiceError",
    "SourceError",
    "SourceUnavailable",
    "StateError",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreUnavailable",
    "TooFewIndexes",
    "TrainingError",
    "TruncatedImage",
    "Unauthorized",
    "UnsupportedByEdge",
    "UnsupportedImage",
]


class ClipQdrantError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(ClipQdrantError, ValueError):
    """A setting or an argument has a value that cannot be used."""


class MissingExtra(ClipQdrantError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs {package}: pip install 'clip-qdrant[{extra}]'")


class ImageError(ClipQdrantError):
    """One image cannot be used. `reason` is a short, stable word for tables and reports."""

    reason = "bad image"


class EmptyImage(ImageError):
    """There are no bytes at all."""

    reason = "empty"


class NotAnImage(ImageError):
    """The bytes are not in any known image format."""

    reason = "not an image"


class UnsupportedImage(ImageError):
    """An image, but in a format or mode that is not decoded here."""

    reason = "unsupported"


class TruncatedImage(ImageError):
    """The image data ends early or is damaged."""

    reason = "truncated"


class ImageTooLarge(ImageError):
    """The image exceeds the limit of bytes or pixels."""

    reason = "too large"


class MetadataError(ClipQdrantError, ValueError):
    """A metadata value does not fit the type of its field. `field` is the path of that field, where it is of one."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class FilterError(ClipQdrantError, ValueError):
    """A where expression is wrong. `column` (from 1) points into its text, where there is one.

    `unknown_field` is the name of a field that is not there, if that is what is wrong, `operand` the place (from 0) of
    a wrong value among those of one condition.
    """

    def __init__(
        self,
        message: str,
        *,
        column: int | None = None,
        unknown_field: str | None = None,
        operand: int | None = None,
    ) -> None:
        self.column = column
        self.unknown_field = unknown_field
        self.operand = operand
        super().__init__(message)


class QueryError(ClipQdrantError, ValueError):
    """A query cannot be run as asked."""


class ModelError(ClipQdrantError):
    """Base of what can go wrong with a model."""


class CheckpointError(ModelError):
    """A checkpoint is damaged, foreign or incomplete."""


class ExportError(ModelError):
    """A model could not be exported to ONNX."""


class FingerprintMismatch(ModelError):
    """A collection was made by another embedder than the one at hand."""


class TrainingError(ClipQdrantError):
    """A training run or its data cannot go on."""


class DiskFull(ClipQdrantError):
    """A checkpoint, or a file of the cache, finds no room on its disk."""


class SourceError(ClipQdrantError):
    """A source cannot be listed or read. `transient`: it may pass by itself, as a timeout or throttling does."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class SourceUnavailable(SourceError):
    """A source does not answer any more: one read after the other failed although each was tried again."""


class DamagedArchive(SourceError):
    """A tar file is cut off, or is not what it should be."""


class AddressRefused(SourceError):
    """A host is not known, or is at an address that is not public."""


class StateError(ClipQdrantError):
    """The state file of ingestion cannot be read or written."""


class ServiceError(ClipQdrantError):
    """Base of what keeps the HTTP service from answering a request as asked."""


class Unauthorized(ServiceError):
    """A request has no key, or one that is not known."""


class Forbidden(ServiceError):
    """The key of a request does not allow what it asks for."""


class NotServed(ServiceError):
    """A request is for something that the service does not give away, or that is not there."""


class RequestTooLarge(ServiceError):
    """A request has more bytes or items than one may have."""


class IngestRunning(ServiceError):
    """A run of ingestion goes on where a second one would be in its way."""


class Overloaded(ServiceError):
    """Too much waits to be done already. The same request may do `retry_after` seconds later."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DeadlineExceeded(ServiceError):
    """A request took longer than one may take."""


class StoreError(ClipQdrantError):
    """Base of what can go wrong with Qdrant."""


class StoreUnavailable(StoreError):
    """The store does not answer, or refuses the credentials. `transient`: the same call may do if it is made again."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class StoreLocked(StoreError):
    """An embedded store is open in another process."""


class StoreDamaged(StoreError):
    """Files of an embedded store are damaged or gone."""


class StoreFull(StoreError):
    """The disk of an embedded store has no room for a write. Nothing of it was done."""


class TooFewIndexes(StoreError):
    """A server allows fewer payload indexes than ingestion needs."""


# The embedded client raises what the client without a server does, ValueError and the like, for those who catch these.


class CollectionNotFound(StoreError, ValueError):
    """There is no collection of this name."""


class CollectionExists(StoreError, ValueError):
    """A collection of this name is there already."""


class PointNotFound(StoreError, KeyError):
    """A point that is to be changed is not there. Those that are there were changed."""

    __str__ = Exception.__str__  # KeyError would quote the message


class InvalidRequest(StoreError, ValueError):
    """Arguments of a call to the store that make no request: a limit below 1, points chosen by nothing."""


class InvalidPoint(InvalidRequest):
    """A vector or an id that the store must not be given."""


class UnsupportedByEdge(StoreError, NotImplementedError):
    """The embedded engine cannot do this; a Qdrant server can."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the embedded store cannot do {what}; run a Qdrant server (docker compose up -d qdrant) "
            "and name it as the location, http://localhost:6333"
        )


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line: its first, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def shorten(text: str, length: int) -> str:
    """The beginning of a text that has more than `length` characters, and an ellipsis."""
    return text if len(text) <= length else f"{text[:length]}…"
