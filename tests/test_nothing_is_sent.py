"""Nothing leaves the machine unasked: no name is looked up, no address called, no trace left by other libraries.

The commands run as processes with an empty home and none of the variables by which libraries keep quiet in CI. A
library of ours that is loaded before all others tells which names they look up, also those that native code asks for.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from computer import Computer, make_computer
from exports import exported_checkpoint, make_export, put_export
from tiny import coloured_pairs

from clip_qdrant.cli.failures import TERMINATED
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.telemetry import SWITCHES

CONTROL = """
import socket
try:
    socket.getaddrinfo("somewhere.example", 443)
except OSError:
    pass
try:
    socket.create_connection(("192.0.2.7", 443))
except OSError:
    pass
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(("localhost", server.getsockname()[1]))
"""
LIBRARY = """
from clip_qdrant import ClipEmbedder
ClipEmbedder.load("tiny.pt", runtime="onnx").embed_texts(["red"])
"""
# The same, and Haystack reports each pipeline that runs.
HAYSTACK = """
from haystack_integrations.components.embedders.clip_qdrant import ClipTextEmbedder
from haystack import Pipeline
pipeline = Pipeline()
pipeline.add_component("embed", ClipTextEmbedder("tiny.pt", runtime="onnx"))
pipeline.run({"embed": {"text": "red"}})
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """A computer on which everything ran: the worker all the while, as libraries wait before they send."""
    computer = make_computer(tmp_path_factory.mktemp("computer"))
    save_checkpoint(exported_checkpoint(), computer.work / "tiny.pt")
    model = computer.work / "tiny.pt"
    put_export(make_export(model), model, computer.home / ".cache" / "clip-qdrant")
    (computer.work / "photos").mkdir()
    pairs = coloured_pairs(computer.work / "photos")
    rows = [f"photos/{Path(str(pair.image)).name},{pair.captions[0]}\n" for pair in pairs]
    (computer.work / "captions.csv").write_text("image,caption\n" + "".join(rows))
    model = ("--model", "tiny.pt")
    program = ("-m", "clip_qdrant")
    watching = ("photos", *model, "--watch", "--location", "watched")
    worker = computer.start("-m", "clip_qdrant_ingestion", *watching)
    service = computer.start(*program, "serve", "--port", "0", *model, "--location", "served")
    try:
        computer.run(*program, "ingest", "photos", *model)
        computer.run(*program, "search", "a red square", *model)
        computer.run(*program, "mcp", *model)  # until its stdin ends, which is at once
        judged = ("--val", "captions.csv", "--epochs", "1", "--output", "mine.pt")
        computer.run("-m", "clip_qdrant_training", "captions.csv", *judged, *model)
        computer.run("-c", HAYSTACK if importlib.util.find_spec("haystack") else LIBRARY)
    finally:
        worker.send_signal(signal.SIGTERM)
        service.send_signal(signal.SIGTERM)
        output, told = (each.communicate(timeout=60)[0] for each in (worker, service))
    assert worker.returncode == TERMINATED, output
    assert service.returncode == 0, told
    return computer


@pytest.mark.slow
def test_no_file_but_ours_appears_in_the_home(used: Computer) -> None:
    assert used.files() == []
    assert (used.home / ".cache" / "clip-qdrant" / "exports").is_dir()


@pytest.mark.slow
def test_no_name_is_looked_up_and_no_address_called(used: Computer) -> None:
    if used.library is None:
        pytest.skip("no C compiler, or no Linux: what native code looks up cannot be seen")
    assert used.asked.read_text().splitlines() == []


def test_what_is_asked_for_elsewhere_is_seen(tmp_path: Path) -> None:
    computer = make_computer(tmp_path)
    if computer.library is None:
        pytest.skip("no C compiler, or no Linux: what native code looks up cannot be seen")
    computer.run("-c", CONTROL)
    assert computer.asked.read_text().splitlines() == ["somewhere.example", "192.0.2.7"]


@pytest.mark.parametrize("name", ["clip_qdrant.runtime.onnx", "clip_qdrant_ingestion", "clip_qdrant_training"])
def test_whatever_is_imported_first_keeps_other_libraries_quiet_unless_the_user_wants_otherwise(name: str) -> None:
    code = f"import os, {name}; print([os.environ[name] for name in {list(SWITCHES)}])"
    own = {"ORT_DISABLE_TELEMETRY": "0"}
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES} | own

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(list((SWITCHES | own).values()))
