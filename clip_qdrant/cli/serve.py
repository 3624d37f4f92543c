"""`clip-qdrant serve`: the HTTP service, over an embedded store or a Qdrant server."""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_line
from clip_qdrant.errors import ConfigError
from clip_qdrant.hosts import is_loopback

if TYPE_CHECKING:
    from clip_qdrant.service.audit import AuditLog
    from clip_qdrant.service.keys.ring import KeyRing
    from clip_qdrant.service.options import ServiceOptions
    from clip_qdrant.service.settings import ServeSettings

__all__ = ["serve"]


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen at.", metavar="HOST")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen at; 0: any.", metavar="PORT")] = None,
    collection: Annotated[
        str | None, typer.Option(help="The collection that is meant where a request names none.", metavar="NAME")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Keys of callers and what each may do (TOML).", metavar="FILE")
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", help="Pages of this origin may call; may be repeated.", metavar="ORIGIN"),
    ] = None,
    audit_log: Annotated[Path | None, typer.Option(help="A line of JSON for each write.", metavar="FILE")] = None,
    allow_private: Annotated[
        bool | None, typer.Option("--allow-private", help="Fetch images from private addresses too.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Until the answer to a request has to begin.", metavar="SECONDS")
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option(help="Go on answering, not ready, after SIGTERM.", metavar="SECONDS"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes, each with its share of the cores, or a GPU.", metavar="NUMBER"),
    ] = None,
) -> None:
    """Serve searches, images and embeddings over HTTP. Without keys only this computer is answered.

    The key that may do everything is CLIP_QDRANT_SERVICE_KEY, and the one that reads CLIP_QDRANT_SERVICE_READ_KEY.
    """
    from clip_qdrant.service.extra import require_serve
    from clip_qdrant.service.settings import ServeSettings

    given = {
        "host": host,
        "port": port,
        "collection": collection,
        "key_file": key_file,
        "cors_origins": tuple(cors_origins) if cors_origins else None,
        "audit_log": audit_log,
        "allow_private": allow_private,
        "deadline": deadline,
        "drain": drain,
        "workers": workers,
    }
    settings = wiring.settings_of(context, given, ServeSettings)
    require_serve()
    from clip_qdrant.service.server import listen

    keys, audit = _read_keys(settings), _open_audit_log(settings)
    if settings.workers > 1:
        _check_workers(settings)
    with listen(settings.host, settings.port) as listener:
        address, found = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        line = f"serving collection {plain(settings.collection)} at http://{shown}:{found}"
        if settings.workers == 1:
            _run(settings, listener, keys, audit, announce=lambda: _announce(line, listener))
            return
        from clip_qdrant.service.workers import run_workers

        _announce(f"{line} with {settings.workers} processes", listener)
        run_workers(functools.partial(_work, settings), settings.workers, listener)


def _announce(line: str, listener: socket.socket) -> None:
    listener.listen()  # who comes from here on waits, and is not refused
    print_line(line)
    sys.stdout.flush()  # whoever started it waits for this line


def _run(
    settings: ServeSettings,
    listener: socket.socket,
    keys: KeyRing,
    audit: AuditLog,
    *,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Answers until this process is told to end."""
    from clip_qdrant.service.server import run_server
    from clip_qdrant.service.state import Service

    embedder = wiring.open_embedder(settings)
    client = wiring.open_client(settings, sharing="host" if settings.workers == 1 else "process")
    try:
        service = Service(client, embedder, _read_options(settings), keys=keys, audit=audit)
        announce()
        run_server(service, listener, drain=settings.drain)
    finally:
        client.close()


def _work(settings: ServeSettings, place: int, listener: socket.socket) -> None:
    """What one of several processes does."""
    own = settings.model_copy(update={"device": _choose_device(settings, place)})
    _run(own, listener, _read_keys(own), _open_audit_log(own))


def _choose_device(settings: ServeSettings, place: int) -> str:
    """A GPU for each process in turn, where the model runs on GPUs and none is named."""
    from clip_qdrant.runtime.choice import choose

    device, runtime = choose(settings.device, settings.runtime)
    if runtime == "onnx" or device != "cuda":
        return settings.device
    import torch

    return f"cuda:{place % torch.cuda.device_count()}"


def _check_workers(settings: ServeSettings) -> None:
    """Raises ConfigError for what several processes cannot share."""
    if settings.location == ":memory:":
        raise ConfigError(
            f"{settings.workers} processes cannot share a store in memory: name a folder or a server (--location), or "
            "take one process (--workers 1)"
        )
    if settings.ingest_from:
        raise ConfigError(
            "a run of ingestion is known to one process alone, so that others cannot tell how far it is: leave out "
            "ingest_from and run `clip-qdrant ingest` beside the service, or take one process (--workers 1)"
        )


def _read_keys(settings: ServeSettings) -> KeyRing:
    from clip_qdrant.service.keys.key import SCOPES, ApiKey
    from clip_qdrant.service.keys.ring import KeyRing

    keys = {}
    if settings.service_read_key is not None:
        reader = ApiKey(name="service_read_key", scopes=frozenset({"read"}))
        keys[settings.service_read_key.get_secret_value()] = reader
    if settings.service_key is not None:
        keys[settings.service_key.get_secret_value()] = ApiKey(name="service_key", scopes=frozenset(SCOPES))
    ring = KeyRing(keys, file=settings.key_file)
    if ring.is_open and not is_loopback(settings.host):
        raise ConfigError(
            f"host is {settings.host!r}, which others can reach, and there are no keys, so that anybody could read and "
            "delete everything: set CLIP_QDRANT_SERVICE_KEY (`openssl rand -hex 32` makes one), name a file of keys "
            "(--key-file), or listen at 127.0.0.1 (--host)"
        )
    return ring


def _open_audit_log(settings: ServeSettings) -> AuditLog:
    from clip_qdrant.service.audit import AuditLog

    audit = AuditLog(settings.audit_log)
    try:
        audit.check()
    except OSError as error:
        raise ConfigError(
            f"cannot write to the audit log {settings.audit_log}: {error.strerror or error} (--audit-log)"
        ) from error
    return audit


def _read_options(settings: ServeSettings) -> ServiceOptions:
    from clip_qdrant.service.embedding.model_names import list_model_names
    from clip_qdrant.service.ingest.rules import IngestRules
    from clip_qdrant.service.options import ServiceOptions
    from clip_qdrant_ingestion.state.state import default_state_path

    return ServiceOptions(
        collection=settings.collection,
        deadline=settings.deadline,
        threads=settings.threads,
        waiting=settings.max_waiting,
        max_body_bytes=settings.max_body_bytes,
        max_batch=settings.max_batch,
        max_query_length=settings.max_query_length,
        max_hits=settings.max_hits,
        limits=wiring.limits_of(settings),
        cors_origins=settings.cors_origins,
        allow_private=settings.allow_private,
        shard_number=settings.shard_number,
        replication_factor=settings.replication_factor,
        indexes=settings.indexes,
        model_names=list_model_names(settings.model, settings.model_names),
        ingest=IngestRules(
            places=settings.ingest_from,
            state=default_state_path(settings.location, settings.cache_dir, None) if settings.ingest_from else None,
            location=settings.shown_location,
        ),
    )
