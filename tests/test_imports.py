"""Who imports whom: the direction of DESIGN, torch only where it belongs, and nothing heavy for a mere import.

cli -> ingestion, training -> collection -> embedder, edge, filters, images -> records, errors
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import clip_qdrant
from clip_qdrant import errors

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "clip_qdrant": ROOT / "clip_qdrant",
    "clip_qdrant_training": ROOT / "training" / "clip_qdrant_training",
    "clip_qdrant_ingestion": ROOT / "ingestion" / "clip_qdrant_ingestion",
}
TOP = tuple(PACKAGES)
TORCH = ("torch", "torchvision", "timm", "transformers", "safetensors")
# What may import torch as soon as it is imported itself.
TORCH_HOMES = (
    "clip_qdrant.model",
    "clip_qdrant.runtime.torch",
    "clip_qdrant.runtime.onnx_export",
    "clip_qdrant_training",
)
# The program is put together here; nothing of ours imports these.
ROOTS = (
    "clip_qdrant.cli",
    "clip_qdrant.settings",
    "clip_qdrant_training.__main__",
    "clip_qdrant_ingestion.__main__",
)
# Modules of the program that are all about ingestion; they are imported themselves only inside functions.
COMPOSED = ("clip_qdrant_ingestion.cli.run", "clip_qdrant_ingestion.cli.watch")
# Below all others: these import only the standard library, and each other.
LEAVES = (
    "clip_qdrant.records",
    "clip_qdrant.errors",
    "clip_qdrant.uris",
    "clip_qdrant.fields.types",
    "clip_qdrant.fields.dates",
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
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


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


IMPORTS = [
    found
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
    for found in imports_of(path, module_name(path, package))
]


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def told(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


def test_the_walk_sees_what_it_should() -> None:
    assert len({each.module for each in IMPORTS}) > 30
    seen = {(each.module, each.name, each.deferred) for each in IMPORTS}
    assert ("clip_qdrant.collection.images", "clip_qdrant.records", False) in seen
    assert ("clip_qdrant.embedder", "clip_qdrant_training", True) in seen
    assert ("clip_qdrant_ingestion.cli.ingest", "clip_qdrant_ingestion", True) in seen
    assert (
        "clip_qdrant_ingestion.cli.ingest",
        "clip_qdrant.collection.images",
        False,
    ) not in seen  # for the type checker only


def test_the_library_imports_training_and_ingestion_only_inside_functions_of_the_cli_and_the_embedder() -> None:
    wrong = [
        each
        for each in IMPORTS
        if within(each.module, "clip_qdrant")
        and within(each.name, "clip_qdrant_training", "clip_qdrant_ingestion")
        and not (each.deferred and within(each.module, "clip_qdrant.cli", "clip_qdrant.embedder"))
        and not within(each.module, *COMPOSED)
    ]
    early = [each for each in IMPORTS if within(each.name, *COMPOSED) and not each.deferred]

    assert told(wrong) == []
    assert told(early) == []


def test_training_and_ingestion_do_not_know_each_other() -> None:
    pairs = (("clip_qdrant_training", "clip_qdrant_ingestion"), ("clip_qdrant_ingestion", "clip_qdrant_training"))
    wrong = [each for each in IMPORTS for one, other in pairs if within(each.module, one) and within(each.name, other)]

    assert told(wrong) == []


def test_the_program_and_its_settings_are_imported_by_nothing_but_the_program() -> None:
    wrong = [each for each in IMPORTS if within(each.name, *ROOTS) and not within(each.module, *ROOTS)]

    assert told(wrong) == []


def test_records_and_errors_import_nothing_of_ours_at_their_top() -> None:
    wrong = [
        each
        for each in IMPORTS
        if within(each.module, *LEAVES)
        and not each.deferred
        and (within(each.name, *TOP) and not within(each.name, *LEAVES))
    ]

    assert told(wrong) == []


def test_what_decodes_and_what_filters_know_neither_collections_nor_models() -> None:
    low = (
        "clip_qdrant.images.load",
        "clip_qdrant.filters.build",
        "clip_qdrant.store.edge.client",
        "clip_qdrant.store.connect",
        "clip_qdrant.store.calls",
    )
    high = ("clip_qdrant.collection.images", "clip_qdrant.embedder", "clip_qdrant.model", "clip_qdrant.runtime")
    wrong = [each for each in IMPORTS if within(each.module, *low) and within(each.name, *high)]

    assert told(wrong) == []


def test_torch_is_imported_at_the_top_of_modules_only_where_it_belongs() -> None:
    wrong = [
        each
        for each in IMPORTS
        if within(each.name, *TORCH) and not each.deferred and not within(each.module, *TORCH_HOMES)
    ]

    assert told(wrong) == []


def test_what_imports_torch_is_imported_only_inside_functions_elsewhere() -> None:
    wrong = [
        each
        for each in IMPORTS
        if within(each.name, *TORCH_HOMES) and not each.deferred and not within(each.module, *TORCH_HOMES)
    ]

    assert told(wrong) == []


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
