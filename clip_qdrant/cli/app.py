"""The program `clip-qdrant`: its options, its commands, and what its run comes to: an exit code."""

# ruff: noqa: ARG001  the options of the program are parameters that their callbacks keep
from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import os
import sys
import warnings
from collections import UserDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clip_qdrant.cli import failures
from clip_qdrant.cli.examples import show_examples
from clip_qdrant.cli.output import printable
from clip_qdrant.cli.wiring import Options
from clip_qdrant.errors import ClipQdrantError

__all__ = ["COMMANDS", "app", "run"]

_NAME = "clip-qdrant"
_CONTEXT = {"help_option_names": ["-h", "--help"]}
# The base of what typer raises for a wrong command line; it is public under no name of its own.
_UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


# Every command and where it lives. The commands of ingestion and training belong to those packages; each is imported
# only when it is called, or when all are listed.
COMMANDS: Mapping[str, str] = {
    "ingest": "clip_qdrant_ingestion.cli.ingest:ingest",
    "ingest-report": "clip_qdrant_ingestion.cli.ingest_report:ingest_report",
    "search": "clip_qdrant.cli.search:search",
    "facet": "clip_qdrant.cli.facet:facet",
    "mcp": "clip_qdrant.cli.mcp:mcp",
    "serve": "clip_qdrant.cli.serve:serve",
    "info": "clip_qdrant.cli.info:info",
    "models": "clip_qdrant.cli.models:models",
    "cache": "clip_qdrant.cli.cache:cache",
    "calibrate": "clip_qdrant.cli.calibrate:calibrate",
    "repair": "clip_qdrant.cli.repair:repair",
    "optimize": "clip_qdrant.cli.optimize:optimize",
    "drop": "clip_qdrant.cli.drop:drop",
    "export": "clip_qdrant.cli.export:export",
    "train": "clip_qdrant_training.cli.train:train",
    "evaluate": "clip_qdrant_training.cli.evaluate:evaluate",
    "demo": "clip_qdrant.cli.demo:demo",
}


# Options that may not stand behind a command.
_OF_THE_PROGRAM = ("version", "install_completion", "show_completion")


class _Commands(UserDict[str, Any]):
    """The commands by name, each imported and built when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _build(name)
        return self.data[name]


def _build(name: str) -> Any:
    module, _, function = COMMANDS[name].partition(":")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_CONTEXT)
    alone.command(name, epilog=show_examples(name))(getattr(importlib.import_module(module), function))
    return typer.main.get_command(alone)


class _Program(TyperGroup):
    """A group of commands that are imported when they are called.

    Its own options may stand behind the command too: `clip-qdrant search cat --location ./photos`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands(dict.fromkeys(COMMANDS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            return None
        command = copy.copy(found)
        taken = {param.name for param in command.params}
        shared = [copy.copy(param) for param in self.params if param.name not in {*_OF_THE_PROGRAM, *taken}]
        for param in shared:
            param.expose_value = False
        command.params = [*command.params, *shared]
        return command


app = typer.Typer(
    cls=_Program,
    no_args_is_help=False,
    epilog=show_examples(""),
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _remember(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Keeps an option; what stands behind the command comes later, and wins."""
    options = context.ensure_object(Options)
    if value is None or value is False or context.resilient_parsing:
        return value
    if param.name in ("config", "debug"):
        setattr(options, param.name, value)
    else:
        options.settings[str(param.name)] = value
    return value


def _version(value: bool) -> None:
    if value:
        from clip_qdrant import __version__

        print(f"{_NAME} {__version__}")
        raise typer.Exit


_PANEL = "Options of every command"


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context,
    location: Annotated[
        str | None,
        typer.Option(
            help="The store: a folder or http(s)://host:port.",
            callback=_remember,
            rich_help_panel=_PANEL,
            metavar="STORE",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help='The model: "bundled", a checkpoint, hf:NAME, open_clip:NAME.',
            callback=_remember,
            rich_help_panel=_PANEL,
            metavar="MODEL",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The key for a Qdrant server; better in CLIP_QDRANT_API_KEY, out of sight of other users.",
            callback=_remember,
            rich_help_panel=_PANEL,
            metavar="KEY",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The settings file (TOML).", callback=_remember, rich_help_panel=_PANEL, metavar="FILE"),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show the log, and where an error comes from.", callback=_remember, rich_help_panel=_PANEL
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Search images by text or image, filtered by metadata; ingest folders of them; train the model."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and gives its exit code. `arguments` are those of the process by default."""
    options = Options(debug=os.environ.get("CLIP_QDRANT_DEBUG", "") not in ("", "0"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not fit the terminal's encoding
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _logging(options, arguments):
            command = typer.main.get_command(app)
            code = command.main(args=arguments, prog_name=_NAME, standalone_mode=False, obj=options)
            sys.stdout.flush()
    except ClipQdrantError as error:
        failures.tell(error, debug=options.debug)
        return failures.exit_code(error)
    except _UsageError as error:
        failures.print_error(_usage(error))
        return failures.USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = failures.INTERRUPTED
    except (BrokenPipeError, SystemExit) as end:  # typer and rich end the program themselves when nobody reads on
        if isinstance(end, SystemExit) and not end.code:  # the shell asked for completions
            return 0
        _let_go_of_stdout()
        return failures.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug is told in a line, not in a page
        failures.tell(error, debug=options.debug)
        return failures.FAILURE
    if code == failures.INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _NAME
    return f"{error.format_message()}\ntry: {path} --help"


def _let_go_of_stdout() -> None:
    """What is still in the buffer goes nowhere, instead of failing when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a stream without a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _PlainFormatter(logging.Formatter):
    """Messages name files, and a file may be named to make a terminal act."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).splitlines()))


@contextlib.contextmanager
def _logging(options: Options, arguments: Sequence[str]) -> Iterator[None]:
    """Warnings of this package go to stderr as one line each; with --debug its whole log, and Python's warnings."""
    debug = options.debug or "--debug" in arguments
    handler = logging.StreamHandler()
    handler.setFormatter(
        _PlainFormatter("%(asctime)s %(name)s %(levelname)s %(message)s" if debug else "warning: %(message)s")
    )
    loggers = [logging.getLogger(name) for name in ("clip_qdrant", "clip_qdrant_training", "clip_qdrant_ingestion")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG if debug else logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
