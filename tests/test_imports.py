"""Who imports whom: one direction, no circles, torch only where it belongs, and nothing heavy for a mere import.

cli, service, integrations -> ingestion, training -> collection -> embedder, store, filters, images -> records, errors
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clip_qdrant
from clip_qdrant import errors
from clip_qdrant.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "clip_qdrant": ROOT / "clip_qdrant",
    "clip_qdrant_training": ROOT / "training" / "clip_qdrant_training",
    "clip_qdrant_ingestion": ROOT / "ingestion" / "clip_qdrant_ingestion",
}
HAYSTACK = "haystack_integrations"  # a namespace that others share; our part of it lies in clip_qdrant
TOP = (*PACKAGES, HAYSTACK)
TORCH = ("torch", "torchvision", "timm", "transformers", "safetensors")
# What may import torch as soon as it is imported itself.
TORCH_HOMES = (
    "clip_qdrant.model",
    "clip_qdrant.runtime.torch",
    "clip_qdrant.runtime.onnx_export",
    "clip_qdrant.runtime.quantization",
    "clip_qdrant_training",
)
# The program is put together here; nothing of ours imports these.
ROOTS = (
    "clip_qdrant.__main__",
    "clip_qdrant.cli",
    "clip_qdrant.settings",
    "clip_qdrant.integrations.mcp.settings",
    "clip_qdrant.service.settings",
    "clip_qdrant_training.cli",
    "clip_qdrant_training.__main__",
    "clip_qdrant_ingestion.cli",
    "clip_qdrant_ingestion.settings",
    "clip_qdrant_ingestion.__main__",
)
# Below all others: these import only the standard library, and each other.
LEAVES = (
    "clip_qdrant.records",
    "clip_qdrant.errors",
    "clip_qdrant.uris",
    "clip_qdrant.fields.types",
    "clip_qdrant.fields.dates",
    "clip_qdrant.fields.names",
    "clip_qdrant.fields.wall_clock",
    "clip_qdrant.fields.calendar",
    "clip_qdrant.fields.word_runs",
    "clip_qdrant.fields.words",
    "clip_qdrant.fields.derived",
)


@dataclass(frozen=True)
class Import:
    """One import: who, what, and whether it runs with the module or only when a function is called."""

    module: str
    name: str
    line: int
    deferred: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


def module_name(path: Path, package: str) -> str:
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    if HAYSTACK in parts:  # imported by this name (tests/test_packaging.py)
        parts = parts[parts.index(HAYSTACK) :]
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path, module: str) -> Iterator[Import]:
    """Imports that can run: those for the type checker only are left out."""

    def walk(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child, deferred)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, deferred)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is a relative import"
            yield Import(module, str(node.module), node.lineno, deferred)
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno, deferred)
        deferred = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, deferred)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), deferred=False)


@functools.cache
def all_imports() -> list[Import]:
    """Those of all packages. Not at the top of the file, which each worker of the suite collects: it takes seconds."""
    return [
        found
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
        for found in imports_of(path, module_name(path, package))
    ]


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def tell(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


def test_the_walk_sees_what_it_should() -> None:
    assert len({each.module for each in all_imports()}) > 100
    seen = {(each.module, each.name, each.deferred) for each in all_imports()}
    assert ("clip_qdrant.collection.images", "clip_qdrant.collection.reader", False) in seen
    assert ("clip_qdrant.embedder", "clip_qdrant_training", True) in seen
    assert ("clip_qdrant_ingestion.cli.ingest", "clip_qdrant_ingestion", True) in seen
    # for the type checker only
    assert ("clip_qdrant_ingestion.cli.ingest", "clip_qdrant.collection.images", False) not in seen


def test_the_library_imports_training_and_ingestion_only_inside_functions_of_the_program_of_fit_and_a_route() -> None:
    wrong = [
        each
        for each in all_imports()
        if within(each.module, "clip_qdrant")
        and within(each.name, "clip_qdrant_training", "clip_qdrant_ingestion")
        and not (
            each.deferred
            and within(
                each.module,
                "clip_qdrant.cli",
                "clip_qdrant.embedder",
                "clip_qdrant.service.ingest",
                "clip_qdrant.service.routes.ingest",
            )
        )
    ]

    assert tell(wrong) == []


def test_the_commands_of_ingestion_and_training_live_with_them() -> None:
    homes = {name: home.partition(".")[0] for name, home in COMMANDS.items()}

    assert homes["ingest"] == homes["ingest-report"] == "clip_qdrant_ingestion"
    assert homes["train"] == homes["evaluate"] == "clip_qdrant_training"
    assert homes["search"] == homes["facet"] == homes["info"] == homes["demo"] == "clip_qdrant"


def siblings() -> dict[str, dict[str, set[str]]]:
    """For each folder, which of its modules and folders imports which other of them, also inside functions."""
    modules = {module_name(path, package) for package, folder in PACKAGES.items() for path in folder.rglob("*.py")}
    graphs: dict[str, dict[str, set[str]]] = {}
    for each in all_imports():
        if each.name not in modules:
            continue
        mine, theirs = each.module.split("."), each.name.split(".")
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
        if 0 < shared < min(len(mine), len(theirs)):
            graph = graphs.setdefault(".".join(mine[:shared]), {})
            graph.setdefault(mine[shared], set()).add(theirs[shared])
    return graphs


def test_there_is_no_circle_between_the_modules_and_folders_of_a_folder() -> None:
    circles = {}
    for folder, graph in siblings().items():
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circles[folder] = " imports ".join(reversed(error.args[1]))

    assert circles == {}


def test_no_module_imports_its_own_package_as_a_whole() -> None:
    # The roots import at first use, so a circle through them would not be seen above.
    whole = {
        package: {f"{package}.{name}" for name in importlib.import_module(package).__all__} for package in PACKAGES
    }
    wrong = [
        each
        for each in all_imports()
        for package, names in whole.items()
        if within(each.module, package) and each.name in names and not within(each.module, f"{package}.cli")
    ]

    assert tell(wrong) == []


def test_a_circle_is_found() -> None:
    graphs = siblings()

    assert "images" in graphs["clip_qdrant"]["collection"] | graphs["clip_qdrant"]["embedder"]
    assert "checkpoint" in graphs["clip_qdrant.model"]["loading"]
    graphs["clip_qdrant"].setdefault("errors", set()).add("collection")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graphs["clip_qdrant"]).prepare()


def classes() -> Iterator[tuple[str, str]]:
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield node.name.lstrip("_"), module_name(path, package)


def test_the_name_of_a_class_exists_once() -> None:
    homes: dict[str, list[str]] = {}
    for name, module in classes():
        homes.setdefault(name, []).append(module)

    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_training_and_ingestion_do_not_know_each_other() -> None:
    pairs = (("clip_qdrant_training", "clip_qdrant_ingestion"), ("clip_qdrant_ingestion", "clip_qdrant_training"))
    wrong = [
        each for each in all_imports() for one, other in pairs if within(each.module, one) and within(each.name, other)
    ]

    assert tell(wrong) == []


def test_the_program_and_its_settings_are_imported_by_nothing_but_the_program() -> None:
    wrong = [each for each in all_imports() if within(each.name, *ROOTS) and not within(each.module, *ROOTS)]

    assert tell(wrong) == []


def test_nothing_but_the_program_knows_the_service_and_the_integrations() -> None:
    tops = {"clip_qdrant.service": (), "clip_qdrant.integrations": (HAYSTACK,)}
    wrong = [
        each
        for each in all_imports()
        for top, others in tops.items()
        if within(each.name, top) and not within(each.module, top, "clip_qdrant.cli", *others)
    ]

    assert tell(wrong) == []


def test_integrations_do_not_know_each_other() -> None:
    home = "clip_qdrant.integrations."
    folders = {path.parent.name for path in (ROOT / "clip_qdrant" / "integrations").glob("*/__init__.py")}
    wrong = [
        each
        for each in all_imports()
        if (each.module.startswith(home) or within(each.module, HAYSTACK))
        and each.name.startswith(home)
        and each.name.split(".")[2] in folders - {each.module.split(".")[2]}
    ]

    assert tell(wrong) == []


def test_records_and_errors_import_nothing_of_ours_at_their_top() -> None:
    wrong = [
        each
        for each in all_imports()
        if within(each.module, *LEAVES)
        and not each.deferred
        and (within(each.name, *TOP) and not within(each.name, *LEAVES))
    ]

    assert tell(wrong) == []


def test_what_decodes_and_what_filters_know_neither_collections_nor_models() -> None:
    low = ("clip_qdrant.images", "clip_qdrant.fields", "clip_qdrant.filters", "clip_qdrant.store", "clip_qdrant.tables")
    high = ("clip_qdrant.collection", "clip_qdrant.embedder", "clip_qdrant.model", "clip_qdrant.runtime")
    wrong = [each for each in all_imports() if within(each.module, *low) and within(each.name, *high)]

    assert tell(wrong) == []


def test_torch_is_imported_at_the_top_of_modules_only_where_it_belongs() -> None:
    wrong = [
        each
        for each in all_imports()
        if within(each.name, *TORCH) and not each.deferred and not within(each.module, *TORCH_HOMES)
    ]

    assert tell(wrong) == []


def test_what_imports_torch_is_imported_only_inside_functions_elsewhere() -> None:
    wrong = [
        each
        for each in all_imports()
        if within(each.name, *TORCH_HOMES) and not each.deferred and not within(each.module, *TORCH_HOMES)
    ]

    assert tell(wrong) == []


def test_every_package_that_is_imported_is_declared() -> None:
    own = {requirement.name for requirement in map(Requirement, metadata.requires("clip-qdrant") or [])}
    declared = {canonicalize_name(name) for name in own}
    homes = {"qdrant_edge": ["qdrant-edge-py"], "haystack": ["haystack-ai"], **metadata.packages_distributions()}
    found = {each.name.partition(".")[0] for each in all_imports()} - set(TOP) - sys.stdlib_module_names
    missing = {name for name in found if not declared & {canonicalize_name(home) for home in homes.get(name, [name])}}

    # of s3fs, of s3fs, of pydantic, and of fastapi
    assert missing == {"aiobotocore", "botocore", "pydantic_core", "starlette"}


@pytest.mark.parametrize("name", ["clip_qdrant", "clip_qdrant.cli", "clip_qdrant.errors", "clip_qdrant.records"])
def test_a_mere_import_is_light(name: str) -> None:
    heavy = (*TORCH, "fastapi", "langchain_core", "onnxruntime", "qdrant_client", "numpy", "PIL")
    code = f"import sys, {name}; print([m for m in {heavy!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_the_library_without_a_model_imports_no_torch() -> None:
    heavy = ("torch", "transformers", "timm")
    code = f"import sys; from clip_qdrant import *; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", clip_qdrant.__all__)
def test_every_name_that_the_package_exports_is_there(name: str) -> None:
    assert getattr(clip_qdrant, name) is not None


def exceptions() -> list[type[BaseException]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]


def test_every_error_derives_from_ours_and_is_exported() -> None:
    assert all(issubclass(kind, errors.ClipQdrantError) for kind in exceptions())
    assert sorted(kind.__name__ for kind in exceptions()) == sorted(errors.__all__)


def test_every_error_is_drawn_in_the_tree_below_its_base() -> None:
    parents: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in str(errors.__doc__).splitlines():
        mark = max(line.find("├"), line.find("└"))
        name = line.lstrip(" │├└─").split(" ")[0]
        if mark >= 0 or name == "ClipQdrantError":
            stack = [(depth, above) for depth, above in stack if depth < mark]
            parents[name] = stack[-1][1] if stack else "Exception"
            stack.append((mark, name))

    assert parents == {kind.__name__: kind.__bases__[0].__name__ for kind in exceptions()}


def test_no_module_defines_an_error_of_its_own() -> None:
    public = []
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            if module_name(path, package) == "clip_qdrant.errors":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                    if bases & {"Exception", *errors.__all__, "ValueError", "RuntimeError", "OSError"}:
                        public.append(f"{path.name}: {node.name}")

    assert public == []
