"""The text form of `where`: its grammar, the tree it parses into, and errors that point into the text.

The tree knows nothing of fields and types; clip_qdrant.filters.build checks it and builds the filter.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.names import join_path

__all__ = ["KEYWORDS", "MAX_DEPTH", "Junction", "Negation", "Node", "Scalar", "Test", "error_at", "parse", "read_name"]

# Every level costs two levels of JSON, and a Qdrant server refuses JSON nested deeper than 128.
MAX_DEPTH = 32
_LONGEST = 256 * 1024  # characters of an expression; parsing one takes about 4 µs a character
# Words that cannot begin a field name without backticks.
KEYWORDS = frozenset({"and", "or", "not", "in", "between", "is", "null", "exists", "true", "false"})

GRAMMAR = r"""
?start: disjunction
?disjunction: conjunction (_OR conjunction)*
?conjunction: factor (_AND factor)*
?factor: _NOT factor -> negation
    | "(" disjunction ")"
    | test
?test: NAME COMPARISON value                                -> comparison
    | NAME IN values                                        -> is_in
    | NAME _NOT IN values                                    -> not_in
    | NAME BETWEEN value _AND value                         -> comparison
    | NAME IS NULL                                          -> is_null
    | NAME IS _NOT NULL                                     -> exists
    | NAME _EXISTS                                          -> exists
    | _EXISTS "(" NAME ")"                                  -> exists
    | NAME MATCHES STRING                                   -> comparison
    | NAME WITHIN NUMBER UNIT _OF "(" NUMBER "," NUMBER ")" -> within
    | NAME WITHIN BOX "(" NUMBER "," NUMBER "," NUMBER "," NUMBER ")" -> within_area
    | NAME WITHIN POLYGON "(" corner ("," corner)* ")"      -> within_area
corner: "(" NUMBER "," NUMBER ")"
values: "(" value ("," value)* ")"
?value: STRING | NUMBER | TRUE | FALSE

_AND: /and\b/i
_OR: /or\b/i
_NOT: /not\b/i
IN: /in\b/i
BETWEEN: /between\b/i
IS: /is\b/i
NULL: /null\b/i
_EXISTS: /exists\b/i
WITHIN: /within\b/i
_OF: /of\b/i
UNIT: /(km|m)\b/i
BOX: /box\b/i
POLYGON: /polygon\b/i
TRUE: /true\b/i
FALSE: /false\b/i
COMPARISON: /[<>]=?|!?=/
MATCHES: /~|\^=/
NUMBER: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?/i
STRING: /'([^']|'')*'|"([^"]|"")*"/
NAME: /(?!(KEYWORD)\b)([^\W\d]\w*|`([^`]|``)+`)(\.(\w+|`([^`]|``)+`))*/i

%ignore /\s+/
"""

_NAME_PART = re.compile(r"`((?:[^`]|``)+)`|(\w+)")
_NAME = re.compile(rf"(?:{_NAME_PART.pattern})(?:\.(?:{_NAME_PART.pattern}))*")

Scalar: TypeAlias = "str | int | float | bool"


@dataclass(frozen=True, slots=True)
class Test:
    """One condition on a field.

    `operator` is one of = != < <= > >= in, not in, between, is null, exists, ~, ^=, within, within box, within polygon;
    `filters.geo` says what the values of the last three are. `field` is a JSON path. The `…_at` are offsets into the
    text.
    """

    field: str
    operator: str
    values: tuple[Scalar, ...]
    field_at: int
    operator_at: int
    values_at: tuple[int, ...]
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Junction:
    """All (`and`) or any (`or`) of the parts."""

    word: str
    parts: tuple[Node, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Negation:
    """The images that `part` does not select."""

    part: Node
    depth: int


Node: TypeAlias = "Test | Junction | Negation"


@lru_cache(maxsize=64)  # a service is asked with the same few again and again; parsing takes 0.1 ms and more
def parse(text: str) -> Node:
    """The tree of a where expression; FilterError, with the column, for a text that is none."""
    if len(text) > _LONGEST:
        raise FilterError(
            f"this where has {len(text)} characters, and {_LONGEST} is the most; in Python a dict may hold more "
            "values: {'album': [...]}"
        )
    try:
        tree = cast(Node, _parser().parse(text))  # what the transformer makes of it, which lark cannot tell
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from error
    except _BadNumber as error:
        raise error_at(text, error.at, str(error)) from error
    if tree.depth > MAX_DEPTH:
        raise FilterError(f"the conditions are nested {tree.depth} levels deep, and {MAX_DEPTH} is the limit")
    return tree


def error_at(text: str, at: int, problem: str, *, unknown_field: str | None = None) -> FilterError:
    """The error `problem`, with the text and a caret under its character `at` (from 0)."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0]
    left = max(start, at - 60)
    before, after = text[left:at], line[at - start : at - start + 60]
    shown = ("…" if left > start else "") + before
    ellipsis = "…" if len(line) > at - start + 60 else ""
    rendered = "".join(" " if unicodedata.category(c) == "Cc" else c for c in shown + after + ellipsis)
    message = f"{problem}\n  {rendered}\n  {' ' * _columns(shown)}^"
    return FilterError(message, column=at + 1, unknown_field=unknown_field)


def _columns(text: str) -> int:
    """The width of a text in a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class _BadNumber(Exception):
    def __init__(self, token: Token) -> None:
        self.at = _at(token)
        super().__init__("this number is too large")


def _at(token: Token) -> int:
    return token.start_pos or 0


def _scalar(token: Token) -> Scalar:
    if token.type == "STRING":
        quote = token[0]
        return str(token)[1:-1].replace(quote * 2, quote)
    if token.type == "NUMBER":
        if len(token) > 400:  # beyond every integer and float there is, and int() refuses thousands of digits
            raise _BadNumber(token)
        if re.fullmatch(r"[+-]?[0-9]+", token):
            return int(token)
        number = float(token)
        if not math.isfinite(number):
            raise _BadNumber(token)
        return number
    return token.type == "TRUE"


def read_name(text: str) -> str | None:
    """The JSON path that a name of the language stands for, which may have parts in backticks; None for no name."""
    if _NAME.fullmatch(text) is None:
        return None
    return join_path(quoted.replace("``", "`") if quoted else plain for quoted, plain in _NAME_PART.findall(text))


def _path(token: Token) -> str:
    path = read_name(str(token))
    assert path is not None, "the grammar takes no other names"
    return path


def _test(name: Token, operator: str, operator_at: int, values: Sequence[Token] = ()) -> Test:
    scalars = tuple(_scalar(value) for value in values)
    return Test(_path(name), operator, scalars, _at(name), operator_at, tuple(_at(value) for value in values))


@v_args(inline=True)
class _Tree(Transformer[Token, Node]):
    """Runs inside the parser, so that deep nesting costs no recursion."""

    def disjunction(self, *parts: Node) -> Node:
        return Junction("or", parts, 1 + max(part.depth for part in parts))

    def conjunction(self, *parts: Node) -> Node:
        return Junction("and", parts, 1 + max(part.depth for part in parts))

    def negation(self, part: Node) -> Node:
        return part.part if isinstance(part, Negation) else Negation(part, 1 + part.depth)

    def comparison(self, name: Token, operator: Token, *values: Token) -> Node:
        return _test(name, operator.lower(), _at(operator), values)

    def is_in(self, name: Token, operator: Token, values: Sequence[Token]) -> Node:
        return _test(name, "in", _at(operator), values)

    def not_in(self, name: Token, operator: Token, values: Sequence[Token]) -> Node:
        return _test(name, "not in", _at(operator), values)

    def values(self, *values: Token) -> Sequence[Token]:
        return values

    def is_null(self, name: Token, *_words: Token) -> Node:
        return _test(name, "is null", _at(name))

    def exists(self, name: Token, *_words: Token) -> Node:
        return _test(name, "exists", _at(name))

    def within(self, name: Token, operator: Token, radius: Token, unit: Token, lat: Token, lon: Token) -> Node:
        test = _test(name, "within", _at(operator), (radius, lat, lon))
        metres = test.values[0] * (1000 if unit.lower() == "km" else 1)
        return Test(test.field, "within", (metres, *test.values[1:]), test.field_at, test.operator_at, test.values_at)

    def within_area(self, name: Token, operator: Token, area: Token, *numbers: Token | Sequence[Token]) -> Node:
        tokens = [each for number in numbers for each in ([number] if isinstance(number, Token) else number)]
        return _test(name, f"within {area.lower()}", _at(operator), tokens)

    def corner(self, lat: Token, lon: Token) -> Sequence[Token]:
        return lat, lon


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(
        GRAMMAR.replace("KEYWORD", "|".join(sorted(KEYWORDS))), parser="lalr", lexer="contextual", transformer=_Tree()
    )


# What can stand at a place, in the user's words: if all of these terminals can, say that.
_EXPECTED: tuple[tuple[str, str], ...] = (
    ("NAME", "a field name"),
    ("COMPARISON", "an operator (=, !=, <, <=, >, >=, ~, ^=, in, not in, between, is null, exists, within)"),
    ("TRUE", "a value (text in quotes, a number, true or false)"),
    ("STRING", "text in quotes"),
    ("BOX", "a number, box or polygon"),
    ("NUMBER", "a number"),
    ("UNIT", "a unit (km or m)"),
    ("_OF", "of"),
    ("LPAR", "'('"),
    ("COMMA", "','"),
    ("RPAR", "')'"),
    ("NULL", "null, not null"),
    ("IN", "in"),
    ("_AND", "and"),
    ("_OR", "or"),
    ("$END", "the end"),
)
_IMPLIED = {"NAME": {"LPAR"}, "BOX": {"NUMBER", "POLYGON"}, "COMPARISON": {"IN", "_NOT"}, "TRUE": {"STRING", "NUMBER"}}


def _syntax_error(text: str, error: UnexpectedInput) -> FilterError:
    if isinstance(error, UnexpectedToken):
        accepted = set(error.accepts or error.expected)
        at = len(text.rstrip()) if error.token.type == "$END" else _at(error.token)
        found = str(error.token)
    else:
        assert isinstance(error, UnexpectedCharacters)
        accepted = set(error.allowed or ())
        at = error.pos_in_stream or 0
        found = text[at]
    hint = _hint(text, at, found, accepted)
    words: list[str] = []
    for terminal, word in _EXPECTED:
        if terminal in accepted:
            words.append(word)
            accepted -= _IMPLIED.get(terminal, set())
    expected = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if at >= len(text.rstrip()):
        return error_at(text, at, f"expected {expected}, but the text ends here")
    return error_at(text, at, f"expected {expected}, found {found!r}{hint}")


def _hint(text: str, at: int, found: str, accepted: set[str]) -> str:
    word = re.match(r"\w*", text[at:])
    assert word is not None
    if found == ")" and "RPAR" not in accepted and "$END" in accepted:
        return "; it closes no '('"
    if found in "'\"`":
        return "; this quote is never closed"
    if "TRUE" in accepted:
        if text[at:].lower().startswith("null"):
            return "; to ask for missing values write: is null"
        if text[at] == "=":
            return "; one = compares"
        if text[at] == ">":
            return "; not equal is written !="
        if word[0]:
            return f"; text stands in quotes: '{word[0]}'"
    if "COMPARISON" in accepted and at and not text[at - 1].isspace() and not found[0].isspace():
        return "; a name with other characters than letters, digits and _ stands in backticks: `odd-name`"
    return ""
