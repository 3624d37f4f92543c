"""A small hub of models on the loopback address: what huggingface_hub asks of the real one to load a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from web import Reply, WebSite


def refusal(status: int, code: str, message: str = "no") -> Reply:
    """As the hub refuses: the kind of error is in a header."""
    return Reply(b"", status, {"X-Error-Code": code, "X-Error-Message": message})


class FakeHub:
    """`add` puts a commit of a repository on it; `refuse` has it answer all that concerns a repository in one way."""

    def __init__(self) -> None:
        self.site = WebSite()
        self._branches: dict[str, dict[str, str]] = {}

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        with self.site.running():
            yield self

    @property
    def downloads(self) -> list[str]:
        """The files that were fetched, in order."""
        asked = [path for method, path, _ in self.site.requests if method == "GET" and "/resolve/" in path]
        return [path.partition("/resolve/")[2].partition("/")[2] for path in asked]

    def add(self, repository: str, files: Mapping[str, bytes] | Path, *, branch: str = "main") -> str:
        """A commit, which a branch is from now on; gives its hash."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        branches = self._branches.setdefault(repository, {})
        branches[branch] = commit
        listed = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        refs = {"branches": [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": at}
                             for name, at in branches.items()], "tags": [], "converts": []}  # fmt: skip
        pages = self.site.pages
        pages[f"/api/models/{repository}/refs"] = json.dumps(refs).encode()
        pages[f"/api/models/{repository}/revision/nowhere"] = refusal(404, "RevisionNotFound")
        for revision in (commit, branch):
            pages[f"/api/models/{repository}/revision/{revision}"] = json.dumps(listed).encode()
            for name, content in files.items():
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                headers = {"ETag": etag, "X-Repo-Commit": commit}
                pages[f"/{repository}/resolve/{revision}/{name}"] = Reply(content, 200, headers)
        return commit

    def refuse(self, repository: str, answer: Reply) -> None:
        """All that concerns a repository is answered so."""
        self.site.pages[f"/api/models/{repository}/revision/main"] = answer

    def refuse_files(self, repository: str, answer: Reply) -> None:
        """Its description can be seen, its files cannot be had, as it is with gated models."""
        for path in self.site.pages:
            if path.startswith(f"/{repository}/resolve/"):
                self.site.pages[path] = answer


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """What HF_ENDPOINT and HF_HUB_CACHE would do: the hub's library reads them when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
