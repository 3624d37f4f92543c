"""The settings of `clip-qdrant serve`: those of the library, and those of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ByteSize, Field, SecretStr

from clip_qdrant.settings import Count, Settings, Text, Texts, expand_home, refuse_bool, setting

__all__ = ["ServeSettings"]

_Seconds = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0, allow_inf_nan=False)]
_File = Annotated[Path | None, BeforeValidator(expand_home)]


class ServeSettings(Settings):
    """What the library needs, where the service answers and whom, and what it allows."""

    host: Text = setting("127.0.0.1", "the address that the service listens at", "a host")
    port: Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=65535)] = setting(
        8080, "the port of the service; 0: one that is free", "a whole number from 0 to 65535"
    )
    service_key: SecretStr | None = setting(
        None, "the key that may do everything in the service", "a text of at least 16 characters"
    )
    service_read_key: SecretStr | None = setting(
        None, "the key that may read in the service", "a text of at least 16 characters"
    )
    key_file: _File = setting(None, "the file with the keys of callers, read again when it changes", "a TOML file")
    cors_origins: Texts = setting(
        (), "origins whose pages may call the service", "origins such as https://example.com, with commas between them"
    )
    audit_log: _File = setting(None, "the file that gets a line of JSON for each write", "a file")
    ingest_from: Texts = setting(
        (),
        "places that runs of ingestion may take images from; unset: none",
        "folders and beginnings of addresses, with commas between them",
    )
    model_names: Texts = setting(
        (), "further names of the model, for clients that have to name one", "names, with commas between them"
    )
    allow_private: bool = setting(False, "whether images may come from private addresses", "true or false")
    deadline: Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, allow_inf_nan=False)] = setting(
        30.0, "seconds until the answer to a request has to begin", "a number of seconds above 0"
    )
    drain: _Seconds = setting(
        0.0, "seconds that the service, told to end, says so and goes on answering", "a number of seconds"
    )
    workers: Count = setting(
        1,
        "processes that answer at the port, each with its share of the cores or a GPU",
        "a whole number of at least 1",
    )
    threads: Count = setting(40, "calls of the library that run at once", "a whole number of at least 1")
    max_waiting: Annotated[int, BeforeValidator(refuse_bool), Field(ge=0)] = setting(
        200, "calls that may wait for one of the threads; what comes beyond is refused", "a whole number"
    )
    max_body_bytes: Annotated[ByteSize, BeforeValidator(refuse_bool), Field(ge=1)] = setting(
        64 * 1024 * 1024, "the largest request", "a number of bytes, or one with a unit such as 64MiB"
    )
    max_batch: Count = setting(256, "images or texts in one request", "a whole number of at least 1")
    max_query_length: Count = setting(
        4000, "characters of a text or a filter in a request", "a whole number of at least 1"
    )
    max_hits: Count = setting(
        1000, "hits of one search, with those that an offset skips", "a whole number of at least 1"
    )
