"""A worker's share of a source: several workers go through one source without talking to each other.

The hash of an object's uri says whose share it is in, so it stays there whatever comes or goes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.sources.protocol import Page, Problem, Source
from clip_qdrant_ingestion.sources.view import SourceView

__all__ = ["Share"]


class Share(SourceView):
    """The objects of share `index` (from 0) of `count`.

    A problem that hides objects is in every share, any other one in the share that owns its uri. Raises ConfigError
    for a share that there cannot be.
    """

    def __init__(self, source: Source, index: int, count: int) -> None:
        if count < 1 or not 0 <= index < count:
            raise _no_share(f"{index}/{count}")
        super().__init__(source)
        self.index = index
        self.count = count

    def __repr__(self) -> str:
        return f"Share({self._source!r}, {self.index}, {self.count})"

    @staticmethod
    def parse(text: str) -> tuple[int, int]:
        """Index and count of text such as 3/8. Raises ConfigError."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if match is None or int(match[1]) >= int(match[2]):
            raise _no_share(text)
        return int(match[1]), int(match[2])

    def owns(self, uri: str) -> bool:
        """Whether the object at this uri, listed or not, is in this share."""
        digest = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        for page in self._source.pages(folders):
            objects = [item for item in page.objects if self.owns(item.uri)]
            yield replace(
                page,
                objects=objects,
                problems=[problem for problem in page.problems if self._has(problem)],
                elsewhere=page.elsewhere + len(page.objects) - len(objects),
            )

    def _has(self, problem: Problem) -> bool:
        return problem.hides_objects or self.owns(problem.uri)


def _no_share(text: str) -> ConfigError:
    return ConfigError(
        f"there is no part {text!r}; write INDEX/COUNT, the index from 0 as in JOB_COMPLETION_INDEX of Kubernetes: "
        "0/8 is the first of eight parts, 7/8 the last"
    )
