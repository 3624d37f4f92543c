"""Passwords and signatures in the addresses of a table: used to fetch, and neither shown, logged nor stored."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_image
from program import Program, program_in
from web import WebSite

SECRETS = ("s3cret", "s1gned", "t0ken", "czNjcmV0")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def table(program: Program) -> Iterator[Path]:
    with WebSite().running() as site:
        site.pages["/a.jpg"] = write_image(program.folder / "a.jpg", "red").read_bytes()
        site.pages["/b.jpg?X-Amz-Signature=s1gned"] = write_image(program.folder / "b.jpg", "blue").read_bytes()
        site.pages["/b.jpg?X-Amz-Signature=an0ther"] = site.pages["/b.jpg?X-Amz-Signature=s1gned"]
        site.pages["/c.jpg?token=t0ken"] = b"no image"
        host = f"127.0.0.1:{site.port}"
        rows = [f"http://user:s3cret@{host}/a.jpg", f"http://{host}/b.jpg?X-Amz-Signature=s1gned"]
        rows += [
            f"http://{host}/c.jpg?token=t0ken",
            f"http://user:s3cret@{host}/gone.jpg",
            "http://user:s3/cret@x/d.jpg",
        ]
        path = program.folder / "table.csv"
        path.write_text("url\n" + "\n".join(rows) + "\n")
        yield path
        sent = [headers.get("authorization") for _, path, headers in site.requests if path == "/a.jpg"]
        assert not sent or sent[0] == "Basic " + base64.b64encode(b"user:s3cret").decode()


def check_silence(text: str) -> None:
    assert not [secret for secret in (*SECRETS, "s3/cret") if secret in text]


def test_no_command_shows_what_is_secret_in_an_address(program: Program, table: Path) -> None:
    run = ("ingest", table, "--allow-private", "--patience", "0")
    for arguments in (
        (*run, "--dry-run"),
        (*run, "--dry-run", "--json"),
        (*run, "--debug"),
        (*run, "--json", "--retry-failed"),
        ("ingest-report",),
        ("ingest-report", "--json"),
        ("search", "red"),
        ("search", "red", "--json", "--html", "page.html"),
    ):
        outcome = program(*arguments)
        assert outcome.code in (0, 6), outcome.err
        check_silence(outcome.out + outcome.err)
    check_silence((program.folder / "page.html").read_text())


def test_neither_the_collection_nor_the_state_file_holds_a_secret(program: Program, table: Path) -> None:
    outcome = program("ingest", table, "--allow-private", "--patience", "0", "--json")

    assert (outcome.json["added"], len(outcome.json["quarantined"])) == (2, 3)
    files = [path for path in (program.folder / "qdrant-data").rglob("*") if path.is_file()]
    assert any(path.name == "ingestion.sqlite" for path in files)
    for path in files:
        check_silence(path.read_bytes().decode("latin-1"))


def test_addresses_that_are_signed_anew_change_nothing(program: Program, table: Path) -> None:
    run = ("ingest", table, "--allow-private", "--patience", "0", "--delete", "--max-delete", "100%", "--json")
    program(*run)
    table.write_text(table.read_text().replace("s1gned", "an0ther").replace("s3cret", "new"))

    report = program(*run).json
    assert [report[name] for name in ("added", "updated", "renamed", "deleted")] == [0, 0, 0, 0]


def test_an_address_in_place_of_a_model_is_not_repeated_with_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clip_qdrant.cli import wiring

    real = wiring.open_embedder
    with program_in(tmp_path, monkeypatch) as program:
        monkeypatch.setattr(wiring, "open_embedder", real)
        outcome = program("info", "--model", "https://user:s3/cret@host/best.pt")
        assert outcome.code == 4
        check_silence(outcome.out + outcome.err)
