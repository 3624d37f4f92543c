"""Settings, read once where a program starts: command line, service, worker. Inside, plain arguments are passed on.

    settings = Settings.load({"location": "http://localhost:6333"})

These are the settings of the library. A part of the program that has more of its own derives a class from `Settings`.

The first that says something wins: what is passed to `load`, the environment (CLIP_QDRANT_LOCATION), `.env` in the
working folder, the TOML file (`clip-qdrant.toml` there, or the file CLIP_QDRANT_CONFIG names), the default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ByteSize, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from clip_qdrant.errors import ConfigError
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Count", "Settings", "Text", "Texts", "expand_home", "refuse_bool", "setting"]

PREFIX = "CLIP_QDRANT_"
TOML_NAME = "clip-qdrant.toml"
_DEFAULT = "default"
_ENVIRONMENT = "environment"


def expand_home(value: Any) -> Any:
    """`~` is the shell's; in a file or behind `=` nobody else expands it."""
    if isinstance(value, (str, Path)) and str(value).startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    return value


def refuse_bool(value: Any) -> Any:
    """pydantic takes `true` for 1."""
    if isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004  pydantic collects ValueError
    return value


def _split(value: Any) -> Any:
    """In the environment several values stand in one text, with commas between them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Texts = Annotated[tuple[Text, ...], NoDecode, BeforeValidator(_split)]
Count = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1)]


def setting(default: Any, meaning: str, allowed: str) -> Any:
    """The field of a setting; `allowed` says in an error which values there are."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed})


class Settings(BaseSettings):
    """The settings of the library, with defaults. The constructor takes values and reads nothing; `load` reads."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    model: Annotated[Text, BeforeValidator(expand_home)] = setting(
        "bundled", "the embedder", '"bundled", the path of a checkpoint, hf: or open_clip: and a model name'
    )
    runtime: Literal["auto", "onnx", "torch"] = setting("auto", "what runs the model", "auto, onnx or torch")
    device: Text = setting("auto", "where torch runs", "auto or a torch device such as cpu, cuda, cuda:1, mps")
    compile: bool = setting(False, "whether torch compiles the image encoder, for long runs on a GPU", "true or false")
    location: Annotated[Text, BeforeValidator(expand_home)] = setting(
        "./qdrant-data", "the Qdrant store", "a folder, http(s)://host:port, or :memory:"
    )
    api_key: SecretStr | None = setting(None, "the key for a Qdrant server", "a text")
    ca_file: Annotated[Path | None, BeforeValidator(expand_home)] = setting(
        None, "certificates (PEM) of a private authority that the Qdrant server is trusted by", "a file"
    )
    prefer_grpc: bool = setting(False, "whether a Qdrant server is asked over gRPC, which is faster", "true or false")
    grpc_port: Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=65535)] = setting(
        6334, "the port of a Qdrant server for gRPC", "a whole number from 1 to 65535"
    )
    collection: Text = setting("images", "the collection that commands use", "a name")
    shard_number: Count | None = setting(
        None, "shards of a collection that is created on a Qdrant cluster", "a whole number of at least 1"
    )
    replication_factor: Count | None = setting(
        None, "copies of each shard of a collection that is created", "a whole number of at least 1"
    )
    indexes: Texts = setting(
        (),
        "fields that are indexed first, where a Qdrant server allows fewer indexes than there are fields",
        "names, with commas between them",
    )
    batch_size: Count = setting(64, "images in one call of the model", "a whole number of at least 1")
    timeout: Count = setting(10, "seconds to wait for a Qdrant server", "a whole number of at least 1")
    max_image_bytes: Annotated[ByteSize, BeforeValidator(refuse_bool), Field(ge=1)] = setting(
        256 * 1024 * 1024, "the largest image file read", "a number of bytes, or one with a unit such as 64MiB"
    )
    max_image_pixels: Count = setting(200_000_000, "the largest image decoded", "a number of pixels of at least 1")
    cache_dir: Annotated[Path | None, BeforeValidator(expand_home)] = setting(
        None, "the folder of exported models; unset: the user's cache folder", "a folder"
    )

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
        also_known: Callable[[], Iterable[str]] = tuple,
    ) -> Self:
        """The settings in force: `given` (None means not given) over environment, `.env`, TOML file and defaults.

        `also_known` gives the names of settings that other parts of a program read from the same places; it is asked
        when there is a name that is none of these settings, and their values are left alone.

        Raises ConfigError for unknown names, and for values that cannot be used, all of them at once.
        """
        given = {name: value for name, value in (given or {}).items() if value is not None}
        _refuse_unknown(given, cls.model_fields, "there is no setting {}")
        variables = {**_dotenv(dotenv), **os.environ}
        ours = {PREFIX + name.upper() for name in cls.model_fields}
        foreign = [name for name in variables if name.upper().startswith(PREFIX) and name.upper() not in ours]
        path, table = _toml(config or variables.get(f"{PREFIX}CONFIG") or None)
        if foreign or not table.keys() <= cls.model_fields.keys():
            known = list(dict.fromkeys([*cls.model_fields, *also_known()]))
            _refuse_misspelt(foreign, known)
            _refuse_unknown(table, known, f"{path}: there is no setting {{}}")
            table = {name: value for name, value in table.items() if name in cls.model_fields}
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
            problems = [cls._problem(name, merged[name], origins[name]) for name in names]
            raise ConfigError("\n".join(problems)) from None  # pydantic's own text would show a secret
        settings._origins.update(origins)
        return settings

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, value) for name, value, _ in self.rows()]

    @property
    def shown_location(self) -> str:
        """The location without the user and password a URL may hold."""
        return mask_secrets(self.location)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value as text with secrets masked, and where the value comes from, of every setting."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            yield name, mask_secrets(text), self._origins.get(name, _DEFAULT)

    @classmethod
    def _problem(cls, name: str, value: Any, origin: str) -> str:
        info = cls.model_fields[name]
        allowed = info.json_schema_extra["allowed"] if isinstance(info.json_schema_extra, dict) else ""
        variable = PREFIX + name.upper()
        where = {_ENVIRONMENT: variable, ".env": f"{variable} in .env", "given": name}.get(
            origin, f"{name} in {origin}"
        )
        is_secret = SecretStr in get_args(info.annotation)
        shown = "**********" if is_secret else mask_secrets(repr(value))
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
        if variable not in known:
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
    import tomllib

    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror or error}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
