"""What the path of an image says about it: `{category}/{year}/*` makes two fields of `shoes/2024/left.jpg`.

A pattern must match the whole path of an object within its source. `{name}` stands for a part of the path, or for a
piece of a part beside other text; in `{date}_{city}.jpg` the date is as short as possible. `*` stands for any text
within a part. `**` is a part of its own: any number of folders, at the end with all that is in them. `{caption}` is the
caption.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import replace

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.sources.protocol import Description, Page, Source
from clip_qdrant_ingestion.sources.view import SourceView

__all__ = ["PathPattern", "PatternedSource"]

logger = logging.getLogger(__name__)

_PIECES = re.compile(r"\{([^{}/]*)\}|\*+|[{}]|[^*{}]+")
_ANY_FOLDERS = "(?:[^/]+/)*"


class PathPattern:
    """A pattern of paths. `fields` are the names in it. Raises ConfigError for a pattern that cannot be used."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._names: list[str] = []
        parts = _compose(pattern).strip("/").split("/")
        *folders, file = [self._part(part) for part in parts]
        if not self._names:
            raise self._error("it names no field; write one in braces, as in {category}/*")
        whole = "".join(_ANY_FOLDERS if part is None else f"{part}/" for part in folders)
        whole += f"{_ANY_FOLDERS}[^/]+" if file is None else file
        self._expression = re.compile(whole, re.DOTALL)

    def __repr__(self) -> str:
        return f"PathPattern({self.pattern!r})"

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self._names)

    def parse(self, name: str) -> dict[str, str] | None:
        """The text of each field in a path; None if the path does not fit the pattern."""
        match = self._expression.fullmatch(_compose(name))
        return None if match is None else dict(zip(self._names, match.groups(), strict=True))

    def _part(self, part: str) -> str | None:
        """The regular expression of one part, None for any number of them."""
        if not part:
            raise self._error("there is nothing between two slashes; take one out")
        if part == "**":
            return None
        expression, after_field = "", False
        for piece in _PIECES.finditer(part):
            text, name = piece[0], piece[1]
            if name is None:
                if text in ("{", "}"):
                    raise self._error("a brace has no partner; a field is written {name}")
                if text.startswith("**"):
                    raise self._error("** stands for whole parts, between slashes; within a part use *")
                expression, after_field = expression + ("[^/]*" if text == "*" else re.escape(text)), text == "*"
                continue
            if not name.strip() or name != name.strip() or '"' in name or "\\" in name:
                raise self._error(f"{text} names no field; use a name without spaces around it, quotes and backslashes")
            if name in self._names:
                raise self._error(f"{text} is there twice; give each field its own name")
            if after_field:
                raise self._error(f"nothing separates {text} from what is before it; put a character between them")
            self._names.append(name)
            expression, after_field = expression + "([^/]+?)", True
        return expression

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"path pattern {self.pattern!r}: {problem}")


class PatternedSource(SourceView):
    """A source whose objects are described by their paths too. Any other description wins, field by field."""

    def __init__(self, source: Source, pattern: PathPattern) -> None:
        super().__init__(source)
        self._pattern = pattern

    def __repr__(self) -> str:
        return f"PatternedSource({self._source!r}, {self._pattern!r})"

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        example, fits = None, False
        for page in self._source.pages(folders):
            objects = []
            for item in page.objects:
                texts = self._pattern.parse(item.name)
                if texts is None:
                    example = example or item.name
                    objects.append(item)
                    continue
                fits = True
                path = Description(texts.pop("caption", None), texts=texts)
                objects.append(replace(item, said=item.said.over(path)))
            yield replace(page, objects=objects)
        if example is not None and not fits and folders is None:
            logger.warning("no path fits the pattern %s; one of them is %r", self._pattern.pattern, example)


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)
