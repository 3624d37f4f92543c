"""Settings, read once where a program starts: command line, service, worker. Inside, plain arguments are passed on.

    settings = Settings.load({"location": "http://localhost:6333"})

The first that says something wins: what is passed to `load`, the environment (CLIP_QDRANT_LOCATION), `.env` in the
working folder, the TOML file (`clip-qdrant.toml` there, or the file CLIP_QDRANT_CONFIG names), the default.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from clip_qdrant.errors import ConfigError, without_user_info

__all__ = ["Settings"]

PREFIX = "CLIP_QDRANT_"
TOML_NAME = "clip-qdrant.toml"
_DEFAULT = "default"
_ENVIRONMENT = "environment"


def _home(value: Any) -> Any:
    """`~` is the shell's; in a file or behind `=` nobody else expands it."""
    if isinstance(value, (str, Path)) and str(value).startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    return value


def _no_bool(value: Any) -> Any:
    """pydantic takes `true` for 1."""
    if isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004  pydantic collects ValueError
    return value


def _parts(value: Any) -> Any:
    """In the environment several values stand in one text, with commas between them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _share(value: Any) -> Any:
    """`10%` is 0.1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return _no_bool(value)


_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
_Seconds = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, allow_inf_nan=False)]
_Patterns = Annotated[tuple[_Text, ...], NoDecode, BeforeValidator(_parts)]


def _setting(default: Any, meaning: str, allowed: str) -> Any:
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed})


class Settings(BaseSettings):
    """Every setting with its default. The constructor takes values and reads nothing; `load` reads."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    model: Annotated[_Text, BeforeValidator(_home)] = _setting(
        "bundled", "the embedder", '"bundled", the path of a checkpoint, or hf: and a model name'
    )
    runtime: Literal["auto", "onnx", "torch"] = _setting("auto", "what runs the model", "auto, onnx or torch")
    device: _Text = _setting("auto", "where torch runs", "auto or a torch device such as cpu, cuda, cuda:1, mps")
    compile: bool = _setting(False, "whether torch compiles the image encoder, for long runs on a GPU", "true or false")
    location: Annotated[_Text, BeforeValidator(_home)] = _setting(
        "./qdrant-data", "the Qdrant store", "a folder, http(s)://host:port, or :memory:"
    )
    api_key: SecretStr | None = _setting(None, "the key for a Qdrant server", "a text")
    collection: _Text = _setting("images", "the collection that commands use", "a name")
    shard_number: _Count | None = _setting(
        None, "shards of a collection that is created on a Qdrant cluster", "a whole number of at least 1"
    )
    replication_factor: _Count | None = _setting(
        None, "copies of each shard of a collection that is created", "a whole number of at least 1"
    )
    batch_size: _Count = _setting(64, "images in one call of the model", "a whole number of at least 1")
    workers: _Count | None = _setting(
        None, "threads that decode images; unset: as many as there are cores", "a whole number of at least 1"
    )
    readers: _Count | None = _setting(
        None, "images that are read at once; unset: what the source needs", "a whole number of at least 1"
    )
    timeout: _Count = _setting(10, "seconds to wait for a Qdrant server", "a whole number of at least 1")
    max_image_bytes: Annotated[ByteSize, BeforeValidator(_no_bool), Field(ge=1)] = _setting(
        256 * 1024 * 1024, "the largest image file read", "a number of bytes, or one with a unit such as 64MiB"
    )
    max_image_pixels: _Count = _setting(200_000_000, "the largest image decoded", "a number of pixels of at least 1")
    cache_dir: Annotated[Path | None, BeforeValidator(_home)] = _setting(
        None, "the folder of exported models; unset: the user's cache folder", "a folder"
    )
    source: Annotated[_Text | None, BeforeValidator(_home)] = _setting(
        None, "what is ingested where no source is named", "a folder, a bucket, a manifest, tar shards or a web page"
    )
    source_kind: Literal["folder", "bucket", "manifest", "shards", "index"] | None = _setting(
        None, "what the source is; unset: told by its name", "folder, bucket, manifest, shards or index"
    )
    source_name: _Text | None = _setting(
        None, "the name stored with every image; unset: where the source lies", "a text"
    )
    include: _Patterns = _setting((), "only files of these patterns", "patterns, with commas between them")
    exclude: _Patterns = _setting((), "no files and folders of these patterns", "patterns, with commas between them")
    hidden: bool = _setting(False, "whether hidden files and folders are taken too", "true or false")
    path_pattern: _Text | None = _setting(
        None, "fields that the path of an image has", 'a pattern such as "{category}/{year}/*"'
    )
    uri_column: _Text | None = _setting(None, "the column of a manifest that names the images", "a name")
    uri_base: Annotated[_Text | None, BeforeValidator(_home)] = _setting(
        None, "where the relative paths of a manifest count from; unset: its folder", "a folder or a URL"
    )
    endpoint_url: _Text | None = _setting(None, "the address of a bucket that is not at its usual one", "a URL")
    object_metadata: bool = _setting(True, "whether the metadata of a bucket's objects are asked for", "true or false")
    allow_private: bool = _setting(False, "whether images may come from private addresses", "true or false")
    file_tags: bool = _setting(True, "whether EXIF, IPTC and XMP become metadata", "true or false")
    shard: _Text | None = _setting(None, "the part of the source that this worker does", "i/n, i from 0 to n - 1")
    delete: bool = _setting(False, "whether images that are gone from the source are deleted", "true or false")
    max_delete: Annotated[float, BeforeValidator(_share), Field(ge=0, le=1, allow_inf_nan=False)] = _setting(
        0.1, "the largest part of a collection that one run may delete", "a share such as 10% or 0.1"
    )
    dedupe: Literal["off", "tag", "skip"] = _setting(
        "off", "what is done with near-duplicates: stored, marked, or left out", "off, tag or skip"
    )
    state: Annotated[Path | None, BeforeValidator(_home)] = _setting(
        None, "the state file; unset: beside an embedded store, else in the user's cache folder", "a file"
    )
    patience: _Seconds = _setting(
        300.0, "seconds for which ingestion goes on trying when source or store do not answer", "a number of seconds"
    )
    bulk: bool = _setting(False, "whether the server builds no index while a run lasts", "true or false")
    engine: Literal["threads", "ray"] = _setting("threads", "what carries out the work", "threads or ray")
    ray_address: _Text | None = _setting(
        None, "the Ray cluster; unset: the one at hand, or one of this computer", "a text"
    )
    embedders: _Count | None = _setting(
        None,
        "processes with the model on a Ray cluster; unset: one for each GPU, or one",
        "a whole number of at least 1",
    )
    watch: bool = _setting(False, "whether ingestion goes on and follows changes", "true or false")
    interval: Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)] | None = _setting(
        None, "seconds between whole runs while watching; unset: only what changes", "a number of seconds above 0"
    )
    health: _Text | None = _setting(None, "where probes, metrics and events are served", "host:port or a port")
    events_token: SecretStr | None = _setting(None, "what a sender of events must show", "a text")
    log_format: Literal["text", "json"] = _setting("text", "how ingestion logs", "text or json")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` reads the others, and keeps what came from where

    @classmethod
    def load(
        cls,
        given: Mapping[str, Any] | None = None,
        *,
        config: str | Path | None = None,
        dotenv: str | Path | None = ".env",
    ) -> Settings:
        """The settings in force: `given` (None means not given) over environment, `.env`, TOML file and defaults.

        Raises ConfigError for unknown names, and for values that cannot be used, all of them at once.
        """
        given = {name: value for name, value in (given or {}).items() if value is not None}
        _refuse_unknown(given, cls.model_fields, "there is no setting {}")
        variables = {**_dotenv(dotenv), **os.environ}
        _refuse_misspelt(variables, cls.model_fields)
        path, table = _toml(config or variables.get(f"{PREFIX}CONFIG") or None)
        _refuse_unknown(table, cls.model_fields, f"{path}: there is no setting {{}}")
        layers: list[tuple[str, Mapping[str, Any]]] = [
            ("given", given),
            (_ENVIRONMENT, EnvSettingsSource(cls)()),
            (".env", DotEnvSettingsSource(cls, env_file=dotenv)()),
            (str(path), table),
        ]
        origins = {name: origin for origin, values in reversed(layers) for name in values if name in cls.model_fields}
        merged = {name: value for _, values in reversed(layers) for name, value in values.items()}
        try:
            settings = cls(**{name: merged[name] for name in origins})
        except ValidationError as error:
            names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors(include_input=False))
            problems = [_problem(name, merged[name], origins[name]) for name in names]
            raise ConfigError("\n".join(problems)) from None  # pydantic's own text would show a secret
        settings._origins.update(origins)
        return settings

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, value) for name, value, _ in self.rows()]

    @property
    def shown_location(self) -> str:
        """The location without the user and password a URL may hold."""
        return without_user_info(self.location)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value as text with secrets masked, and where the value comes from, of every setting."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            if name in ("location", "source", "endpoint_url"):
                text = without_user_info(text)
            yield name, text, self._origins.get(name, _DEFAULT)


def _problem(name: str, value: Any, origin: str) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    variable = PREFIX + name.upper()
    where = {_ENVIRONMENT: variable, ".env": f"{variable} in .env", "given": name}.get(origin, f"{name} in {origin}")
    shown = "**********" if name in ("api_key", "events_token") else without_user_info(repr(value))
    return f"{where} is {shown}: it must be {allowed}"


def _refuse_unknown(names: Iterable[str], known: Iterable[str], message: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{message.format(repr(name))}; {_suggestion(name, known)}")


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def _refuse_misspelt(variables: Iterable[str], fields: Iterable[str]) -> None:
    """A variable with our prefix that is almost a setting is a mistake; others may belong to other programs."""
    known = [PREFIX + name.upper() for name in fields]
    for variable in map(str.upper, variables):
        if variable.startswith(PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, known, n=1, cutoff=0.9)
            if close:
                raise ConfigError(f"there is no setting {variable}; did you mean {close[0]}?")


def _dotenv(path: str | Path | None) -> dict[str, str]:
    from dotenv import dotenv_values

    if path is None or not Path(path).is_file():
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _toml(config: str | Path | None) -> tuple[Path, dict[str, Any]]:
    if config is None and not Path(TOML_NAME).is_file():
        return Path(TOML_NAME), {}
    path = Path(config or TOML_NAME).expanduser()
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror or error}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
