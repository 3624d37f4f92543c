"""`where=` -> qdrant_client.models.Filter: a where expression, a dict, or a Filter, checked against the indexed fields.

docs/filters.md describes the language. A condition that its field cannot answer is refused here, before any call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Union

from qdrant_client import models

from clip_qdrant.errors import FilterError, MetadataError
from clip_qdrant.fields.calendar import find_calendar_part
from clip_qdrant.fields.derived import index_keys
from clip_qdrant.fields.names import canonical_name, join_path, split_path
from clip_qdrant.fields.types import METADATA_PREFIX, RESERVED_FIELDS, FieldType
from clip_qdrant.fields.values import describe_value, unbox
from clip_qdrant.fields.words import words_key
from clip_qdrant.filters.areas import read_area
from clip_qdrant.filters.calendar import CALENDAR_OPERATORS
from clip_qdrant.filters.conditions import OPERATORS, build_calendar_test, build_test, join_all, join_any, negate
from clip_qdrant.filters.geo import AREAS
from clip_qdrant.filters.language import KEYWORDS, MAX_DEPTH, Junction, Negation, Node, Test, error_at, parse, read_name

__all__ = ["Where", "build_filter", "holds_always", "resolve_field", "show_field"]

Where = Union[str, Mapping[str, Any], models.Filter]  # noqa: UP007  # a Filter class has no | before it is built

_TOO_DEEP = f"the conditions are nested deeper than {MAX_DEPTH} levels"
_ALL_OPERATORS = dict.fromkeys(
    operator for operators in OPERATORS.values() for operator in operators if operator not in AREAS[1:]
)


def build_filter(where: Where | None, fields: Mapping[str, FieldType]) -> models.Filter | None:
    """The filter that `where` describes; None for no filter (None, an empty text or dict).

    `fields` are the full payload keys of the indexed fields and their types. A models.Filter is returned as it is.
    Raises FilterError for a wrong expression, a field that is not there, an operator or a value that does not fit.
    """
    if where is None:
        return None
    condition = _build(where, fields, MAX_DEPTH)
    if condition is None or isinstance(condition, models.Filter):
        return condition
    return models.Filter(must=[condition])


def holds_always(condition: models.Condition | None) -> bool | None:
    """True for a condition that every point meets whatever its payload (an empty Filter, also in Filters), False for
    one that none meets, None where it depends on the point.
    """
    if not isinstance(condition, models.Filter):
        return None
    answers = [holds_always(one) for one in _list_conditions(condition.must)]
    answers += [_negate_answer(holds_always(one)) for one in _list_conditions(condition.must_not)]
    if should := [holds_always(one) for one in _list_conditions(condition.should)]:
        answers.append(_at_least(1, should))
    if condition.min_should is not None:
        inner = [holds_always(one) for one in condition.min_should.conditions]
        answers.append(_at_least(condition.min_should.min_count, inner))
    return False if False in answers else None if None in answers else True


def _at_least(number: int, answers: list[bool | None]) -> bool | None:
    if answers.count(True) >= number:
        return True
    return None if len(answers) - answers.count(False) >= number else False


def _negate_answer(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _list_conditions(clause: Any) -> list[Any]:
    """The conditions of a clause of a Filter, which may be one, a list, or none."""
    return clause if isinstance(clause, list) else [] if clause is None else [clause]


def resolve_field(name: str, fields: Mapping[str, FieldType]) -> str:
    """The full payload key of the field a user calls `name`, also as messages and where texts write it, in backticks.

    Raises FilterError naming the fields there are.
    """
    if not isinstance(name, str):
        raise FilterError(f"a field is named by text, not by {name!r}")
    spellings = [join_path([name])] if name and '"' not in name else []
    with suppress(ValueError):
        spellings.insert(0, canonical_name(name))
    if "`" in name and (path := read_name(name)) is not None:
        spellings.append(path)
    for spelling in spellings:
        for key in (spelling, METADATA_PREFIX + spelling):
            if key in fields and (key in RESERVED_FIELDS or key.startswith(METADATA_PREFIX)):
                return key
    raise FilterError(_explain_unknown(name, fields), unknown_field=name)


def _explain_unknown(name: str, fields: Mapping[str, FieldType]) -> str:
    if find_calendar_part(name) and "taken_at" in fields:
        return f"{name} is a part of taken_at: images are filtered by it and counted (facet, facets), and nothing else"
    # The user's own fields first: they are the ones meant most often.
    names = [show_field(key) for key in sorted(fields, key=lambda key: (key in RESERVED_FIELDS, key.replace('"', "")))]
    lowered = {known.lower(): known for known in reversed(names)}
    wanted = show_field(name if name.startswith(METADATA_PREFIX) else METADATA_PREFIX + name)
    close = [lowered[match] for match in get_close_matches(wanted.lower(), lowered, n=3, cutoff=0.7)]
    guess = f"; did you mean {' or '.join(close)}?" if close else ";"
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    told = ", ".join(names[:30]) or "none"
    return f"there is no indexed field {wanted or repr(name)}{guess} the fields are {told}{more}"


@lru_cache(maxsize=1024)  # each test of each search has one
def show_field(key: str) -> str:
    """A payload key as it is written in a where expression."""
    bare = key.removeprefix(METADATA_PREFIX)
    try:
        keys = split_path(bare)
    except ValueError:
        return bare
    if key != bare and (bare in RESERVED_FIELDS or keys[0].lower() in KEYWORDS):
        keys.insert(0, "metadata")
    return ".".join(part if part.isidentifier() else "`" + part.replace("`", "``") + "`" for part in keys)


def _build(where: Any, fields: Mapping[str, FieldType], levels: int) -> models.Condition | None:
    if isinstance(where, str):
        if not where.strip():
            return None
        tree = parse(where)
        if tree.depth > levels:
            raise FilterError(_TOO_DEEP)
        return _from_tree(tree, where, fields)
    if levels == 0:
        raise FilterError(_TOO_DEEP)
    if isinstance(where, models.Filter):
        _check_filter(where, fields, levels)
        return where
    if isinstance(where, Mapping):
        return _from_dict(where, fields, levels)
    raise FilterError(f"where must be text, a dict or a models.Filter, not {describe_value(where)}")


def _from_tree(tree: Node, text: str, fields: Mapping[str, FieldType]) -> models.Condition:
    if isinstance(tree, Junction):
        parts = [_from_tree(part, text, fields) for part in tree.parts]
        return join_all(parts) if tree.word == "and" else join_any(parts)
    if isinstance(tree, Negation):
        return negate(_from_tree(tree.part, text, fields))
    try:
        key = _find(tree.field, fields)
    except FilterError as error:
        raise error_at(text, tree.field_at, str(error), unknown_field=error.unknown_field) from error
    return _check_test(tree, key, fields, lambda problem, at: error_at(text, at, problem))


def _find(name: str, fields: Mapping[str, FieldType]) -> str:
    """As `resolve_field`, but the name of a calendar part (`taken_at.month`) stands for itself."""
    return name if find_calendar_part(name) and "taken_at" in fields else resolve_field(name, fields)


def _check_test(
    test: Test, key: str, fields: Mapping[str, FieldType], refusal: Callable[[str, int], FilterError]
) -> models.Condition:
    """The condition of one test on the field at `key`, if its type has the operator."""
    if (part := find_calendar_part(key)) is not None:
        if test.operator not in CALENDAR_OPERATORS:
            raise refusal(f"{key} has no {test.operator}; it has {', '.join(CALENDAR_OPERATORS)}", test.operator_at)
        return build_calendar_test(part, key, test, refusal)
    field_type = fields[key]
    operators = OPERATORS[field_type]
    name = show_field(key)
    if test.operator not in operators:
        hint = f"; to compare whole values declare {name} as keyword" if field_type == "text" else ""
        if field_type == "datetime" and test.operator in ("~", "^="):
            hint = f"; a month is asked for by {name} = '2024-05'"
        raise refusal(
            f"{name} is a {field_type} field and has no {test.operator}; it has {', '.join(operators)}{hint}",
            test.operator_at,
        )
    return build_test(key, name, field_type, test, refusal)


def _from_dict(where: Mapping[Any, Any], fields: Mapping[str, FieldType], levels: int) -> models.Condition | None:
    parts: list[models.Condition] = []
    for key, value in where.items():
        if not isinstance(key, str):
            raise FilterError(f"where: {describe_value(key)} is no field name; the keys of a where dict are str")
        if key in ("and", "or"):
            if not isinstance(value, (list, tuple)) or not value:
                raise FilterError(f"where[{key!r}] must be a list of at least one where, not {describe_value(value)}")
            inner = [_part(item, f"where[{key!r}][{i}]", fields, levels - 1) for i, item in enumerate(value)]
            parts.append(join_all(inner) if key == "and" else join_any(inner))
        elif key == "not":
            parts.append(negate(_part(value, "where['not']", fields, levels - 1)))
        else:
            parts.extend(_field_tests(key, value, fields))
    return join_all(parts) if parts else None


def _part(where: Any, place: str, fields: Mapping[str, FieldType], levels: int) -> models.Condition:
    condition = _build(where, fields, levels)
    if condition is None:
        raise FilterError(f"{place} is empty: it must hold a condition")
    return condition


def _field_tests(name: str, asked: Any, fields: Mapping[str, FieldType]) -> Iterable[models.Condition]:
    """The conditions of one entry of a where dict: a value, a list (any of), or operators with their values."""
    key = _find(name, fields)
    try:
        asked = unbox(asked, None, name)
        if asked is None:
            asked = {"is null": True}
        elif isinstance(asked, list):
            asked = {"in": asked}
        elif not isinstance(asked, Mapping):
            asked = {"=": asked}
        if not asked:
            raise FilterError(f"where[{name!r}] is an empty dict; name an operator, as in {{'>=': 2022}}")
        for operator, operand in asked.items():
            refusal = _dict_refusal(f"where[{name!r}][{operator!r}]")
            yield _check_test(_operator_test(name, operator, operand, refusal), key, fields, refusal)
    except MetadataError as error:
        raise FilterError(f"where[{name!r}]: {error}") from error


def _dict_refusal(place: str) -> Callable[[str, int], FilterError]:
    return lambda problem, _at: FilterError(f"{place}: {problem}")


def _operator_test(name: str, operator: Any, operand: Any, refusal: Callable[[str, int], FilterError]) -> Test:
    """The test that an operator and its operand in a where dict stand for."""
    operand = unbox(operand, None, name)
    if operator not in _ALL_OPERATORS:
        raise refusal(f"there is no such operator; there are {', '.join(_ALL_OPERATORS)}", 0)
    if operator in ("=", "!=") and operand is None:
        operator, operand = ("is null" if operator == "=" else "exists"), True
    values: Any = [operand]
    if operator in ("is null", "is not null", "exists"):
        if not isinstance(operand, bool):
            raise refusal(f"takes True or False, not {describe_value(operand)}", 0)
        missing = operand is (operator == "is null")
        operator, values = ("is null" if missing else "exists"), []
    elif operator in ("in", "not in", "between"):
        count = 2 if operator == "between" else None
        if not isinstance(operand, list) or not operand or (count and len(operand) != count):
            raise refusal(f"takes a list of {count or 'at least one'} values, not {describe_value(operand)}", 0)
        values = [unbox(value, None, name) for value in operand]
    elif operator == "within":
        operator, values = read_area(operand, refusal)
    return Test(name, operator, tuple(values), 0, 0, (0,) * len(values))


def _check_filter(where: models.Filter, fields: Mapping[str, FieldType], levels: int, inside: str = "") -> None:
    """Refuse a models.Filter that asks for a field without an index, at any depth."""
    if levels == 0:
        raise FilterError(_TOO_DEEP)
    clauses = [where.must, where.should, where.must_not, where.min_should.conditions if where.min_should else None]
    for clause in clauses:
        for condition in _list_conditions(clause):
            if isinstance(condition, models.Filter):
                _check_filter(condition, fields, levels - 1, inside)
            elif isinstance(condition, models.NestedCondition):
                nested = condition.nested
                _check_filter(nested.filter, fields, levels - 1, f"{inside}{nested.key.removesuffix('[]')}.")
            else:
                key = _key_of(condition)
                if key is not None:
                    _check_key(inside + key, fields)


def _key_of(condition: models.Condition | None) -> str | None:
    if isinstance(condition, models.FieldCondition):
        return condition.key
    if isinstance(condition, models.IsEmptyCondition):
        return condition.is_empty.key
    if isinstance(condition, models.IsNullCondition):
        return condition.is_null.key
    return None


def _check_key(key: str, fields: Mapping[str, FieldType]) -> None:
    try:
        path = canonical_name(key.replace("[]", ""))
    except ValueError as error:
        raise FilterError(_explain_unknown(key, fields), unknown_field=key) from error
    if any(path == known.replace("[]", "") for name, kind in fields.items() for known in index_keys(name, kind)):
        return
    if fields.get(path) == "text":
        raise FilterError(
            f"models.Filter: {path} is a text field, whose words are indexed at {words_key(path)} (docs/filters.md); "
            f'write {{"and": [models.Filter(…), "{show_field(path)} ~ \'…\'"]}}'
        )
    hint = f" (the full payload key {METADATA_PREFIX}{path} is there)" if METADATA_PREFIX + path in fields else ""
    raise FilterError(f"models.Filter: {_explain_unknown(key, fields)}{hint}", unknown_field=key)
