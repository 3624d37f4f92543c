"""The types of metadata fields: declared or inferred, checked before anything is stored, mapped to payload indexes.

A field is named by its path below `metadata`, in the syntax of Qdrant's JSON paths: `year`, `exif.camera`,
`"odd name"` (keys with other characters than letters, digits, _ and - stand in double quotes).
Values are never coerced and never dropped: what does not fit its field is a MetadataError.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard, cast

from qdrant_client import models

from clip_qdrant.errors import ConfigError, MetadataError
from clip_qdrant.fields.derived import index_keys
from clip_qdrant.fields.names import canonical_name, join_path, split_path
from clip_qdrant.fields.types import FIELD_TYPES, METADATA_PREFIX, RESERVED_FIELDS, FieldType
from clip_qdrant.fields.values import (
    convert_value,
    describe_value,
    explain_unsupported,
    is_place,
    is_utf8,
    kind_of,
    misfit,
    name_in_error,
    unbox,
)

__all__ = ["MOST_FIELDS", "CheckedMetadata", "Schema", "index_params"]

MOST_FIELDS = 256  # of a collection; each has a payload index, which is about 2 MB in an embedded store
_MAX_DEPTH = 16  # of nested metadata, far from Python's recursion limit
_MOST_LEFT_OUT = 100  # fields of one image that are told of
_WORDS = {"moment": "datetime"}  # a kind of value -> the type it asks for, where the two differ


def index_params(field_type: FieldType) -> models.PayloadSchemaType | models.KeywordIndexParams:
    """What to create a payload index of this type (`Schema.indexes`) with."""
    if field_type == "keyword":
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True)  # for ^= and ~
    return models.PayloadSchemaType(field_type)


class CheckedMetadata(dict[str, Any]):
    """Metadata as `Schema.normalise` gives it, in JSON types, with the version of the schema that it fits.

    `complete` says that the schema has all of its fields. It is not changed any more: changed metadata is a new dict.
    """

    __slots__ = ("complete", "schema_version")

    def __init__(self, values: Mapping[str, Any], *, schema_version: str, complete: bool) -> None:
        super().__init__(values)
        self.schema_version = schema_version
        self.complete = complete


@dataclass(frozen=True, slots=True)
class Schema:
    """Types of metadata fields, named without the `metadata.` prefix.

    Raises ConfigError for a type or a name that there cannot be.
    """

    fields: Mapping[str, FieldType] = field(default_factory=dict)
    expected: Mapping[str, FieldType] = field(default_factory=dict)  # of new fields, where their values fit it
    version: str = field(init=False, repr=False, compare=False)  # equal for equal `fields`, in every process

    def __post_init__(self) -> None:
        fields: dict[str, FieldType] = {}
        for name, field_type in self.fields.items():
            if field_type not in FIELD_TYPES:
                raise ConfigError(f"field {name!r}: unknown type {field_type!r}; use one of {', '.join(FIELD_TYPES)}")
            try:
                fields[canonical_name(name)] = field_type
            except ValueError as error:
                raise ConfigError(
                    f"{error}; nested keys are joined by dots, as in exif.camera, and have no backslash"
                ) from error
        for name in fields:
            inside = next((other for other in fields if other.startswith(name + ".")), None)
            if inside is not None:
                raise ConfigError(f"field {name!r} cannot be a value and have the field {inside!r} inside it")
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "version", hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest())

    def payload_fields(self) -> dict[str, FieldType]:
        """Full payload keys of all indexed fields, the reserved ones included."""
        return {**RESERVED_FIELDS, **{METADATA_PREFIX + name: field_type for name, field_type in self.fields.items()}}

    def indexes(self) -> dict[str, FieldType]:
        """The payload keys that have an index, and its type: see `fields.derived`."""
        fields = self.payload_fields().items()
        return {key: kind for name, field_type in fields for key, kind in index_keys(name, field_type).items()}

    def extend(
        self, metadatas: Iterable[Mapping[str, Any]], *, uris: Sequence[str] | None = None, lenient: bool = False
    ) -> Schema:
        """This schema and the fields that are new in `metadatas`, with the type of their values.

        `uris` (one per metadata) are named in errors. Raises MetadataError where values of a field have no type in
        common, or where there are more than MOST_FIELDS. If `lenient`, such a field gets the type that most of its
        values have, and of too many those stay out that the fewest images have; `normalise` leaves them out if told to.
        """
        new = self.new_fields(metadatas, uris=uris, lenient=lenient)
        return replace(self, fields={**self.fields, **new}) if new else self

    def new_fields(
        self, metadatas: Iterable[Mapping[str, Any]], *, uris: Sequence[str] | None = None, lenient: bool = False
    ) -> dict[str, FieldType]:
        """The fields in `metadatas` that the schema does not have, with the type of their values. As `extend`."""
        seen: dict[str, list[tuple[str | None, Any]]] = {}
        parents: dict[str, str | None] = dict.fromkeys(_parents(self.fields))
        for i, metadata in enumerate(metadatas):
            if self._fits(metadata) and metadata.complete:
                continue
            uri = uris[i] if uris is not None else None
            for name, value in self._leaves(metadata, uri):
                if name not in self.fields:
                    seen.setdefault(name, []).append((uri, value))
                    parents.update(dict.fromkeys(_parents([name]), uri))
        if lenient:
            seen = self._keep_frequent(seen)
        found: dict[str, FieldType] = {}
        for name, values in seen.items():
            field_type = _infer_type(name, values, lenient=lenient)
            if field_type is None:
                continue
            if name in parents and not lenient:
                uri, value = values[0]
                raise misfit(
                    uri, name, value, "is a group of nested fields elsewhere; use another name for one of the two"
                )
            found[name] = _widen(field_type, self.expected.get(name))
        room = max(0, MOST_FIELDS - len(self.fields))
        if lenient:  # those that may come have to find room too
            room = max(0, room - len(self.expected.keys() - self.fields.keys() - found.keys()))
        if len(found) <= room:
            return found
        if lenient:
            kept = sorted(found, key=lambda name: -len(seen[name]))[:room]
            return {name: found[name] for name in found if name in set(kept)}
        beyond = list(found)[room]
        uri, value = seen[beyond][0]
        raise misfit(uri, beyond, value, _explain_full(len(self.fields) + len(found)))

    def _keep_frequent(self, seen: dict[str, list[tuple[str | None, Any]]]) -> dict[str, list[tuple[str | None, Any]]]:
        """Where a name is a value here and a group of fields there, that of the two which most images have."""
        known = set(_parents(self.fields))
        groups: dict[str, list[str]] = {}
        for name in seen:
            for parent in _parents([name]):
                groups.setdefault(parent, []).append(name)
        kept = {name: values for name, values in seen.items() if name not in known}
        for group, names in groups.items():
            if group not in kept:
                continue
            if len(kept[group]) < max(len(seen[name]) for name in names):
                del kept[group]
            else:
                for name in names:
                    kept.pop(name, None)
        return kept

    def normalise(
        self, metadata: Mapping[str, Any], *, uri: str | None = None, left_out: list[MetadataError] | None = None
    ) -> CheckedMetadata:
        """`metadata` in JSON types, as it is stored: None left out, sets and tuples as lists, numpy scalars as numbers.

        Moments become ISO 8601 text, with a zone where they name one. A field that the schema does not have (yet) is
        brought into JSON types only. What was normalised by these fields before is given back as it is.
        Raises MetadataError, naming uri, field and value, for what does not fit; with `left_out` such a field is left
        out, and its error added to that list (100 at most).
        """
        if self._fits(metadata):
            return metadata
        groups, unknown = set(_parents(self.fields)), set[str]()
        values = self._normalise(metadata, (), uri, groups, unknown, left_out)
        return CheckedMetadata(values, schema_version=self.version, complete=not unknown)

    def _fits(self, metadata: Mapping[str, Any]) -> TypeGuard[CheckedMetadata]:
        """Whether metadata was normalised by these fields."""
        return isinstance(metadata, CheckedMetadata) and metadata.schema_version == self.version

    def _normalise(
        self,
        metadata: Mapping[str, Any],
        above: tuple[str, ...],
        uri: str | None,
        groups: set[str],
        unknown: set[str],
        left_out: list[MetadataError] | None,
    ) -> dict[str, Any]:
        """One level of metadata; fields that the schema does not have are added to `unknown`."""
        result: dict[str, Any] = {}
        for key, name, raw in _entries(metadata, above, uri, left_out):
            try:
                value = unbox(raw, uri, name)
                if self._is_group(name, value):
                    result[key] = self._normalise(value, (*above, key), uri, groups, unknown, left_out)
                    continue
                result[key] = self._convert(value, raw, uri, name, groups)
                if name not in self.fields:
                    if left_out is not None and len(self.fields) + len(unknown) >= MOST_FIELDS:
                        del result[key]
                        raise misfit(uri, name, raw, _explain_full(len(self.fields) + len(unknown) + 1))
                    unknown.add(name)
            except MetadataError as error:
                if left_out is None:
                    raise
                _note(error, left_out)
        return result

    def _convert(self, value: Any, raw: Any, uri: str | None, name: str, groups: set[str]) -> Any:
        """The unboxed value of one field in JSON types."""
        field_type = self.fields.get(name)
        if name in groups:
            inside = next(other for other in self.fields if other.startswith(name + "."))
            raise misfit(uri, name, raw, f"is a group of nested fields ({inside}); pass a dict or use another name")
        if not isinstance(value, list):
            return convert_value(value, field_type, uri, name)
        items = [unbox(item, uri, name) for item in value]
        kept = [item for item in items if item is not None]
        if field_type is None:
            _infer_type(name, [(uri, kept)])
        return [convert_value(item, field_type, uri, name) for item in kept]

    def _leaves(
        self, metadata: Mapping[str, Any], uri: str | None, above: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, Any]]:
        for key, name, raw in _entries(metadata, above, uri):
            value = unbox(raw, uri, name)
            if self._is_group(name, value):
                yield from self._leaves(value, uri, (*above, key))
            else:
                yield name, value

    def _is_group(self, name: str, value: Any) -> bool:
        """Whether a value is a dict of nested fields, rather than a value (of a known field, or a place)."""
        if not isinstance(value, Mapping) or name in self.fields:
            return False
        return not is_place(value) or any(f"{name}.{part}" in self.fields for part in ("lat", "lon"))


def _entries(
    metadata: Any, above: tuple[str, ...], uri: str | None, left_out: list[MetadataError] | None = None
) -> Iterator[tuple[str, str, Any]]:
    """Key, field name and value of what is present in one level of metadata."""
    if not isinstance(metadata, Mapping):
        raise MetadataError(f"{name_in_error(uri)}metadata must be a dict, not {describe_value(metadata)}")
    if len(above) >= _MAX_DEPTH:
        raise MetadataError(
            f"{name_in_error(uri)}metadata is nested deeper than {_MAX_DEPTH} levels at {join_path(above)!r}",
            field=join_path(above),
        )
    for key, value in metadata.items():
        if not isinstance(key, str) or not key or '"' in key or "\\" in key or not is_utf8(key):
            error = MetadataError(
                f"{name_in_error(uri)}metadata key {key!r} cannot be a field name: use a non-empty string without "
                "double quotes and backslashes",
                field=ascii(key),
            )
            if left_out is None:
                raise error
            _note(error, left_out)
            continue
        if value is not None:
            yield str(key), join_path((*above, key)), value


def _explain_full(number: int) -> str:
    """What to say of a field for which a collection of `number` fields has no room."""
    return (
        f"would be one of {number} fields, and a collection has {MOST_FIELDS} at most, each with an index; leave out "
        "what nobody filters by, or put it into one field as text"
    )


def _note(error: MetadataError, left_out: list[MetadataError]) -> None:
    """Adds the error of a field that is left out; a stranger's file may have any number of them."""
    if len(left_out) < _MOST_LEFT_OUT:
        left_out.append(error)


def _parents(names: Iterable[str]) -> Iterator[str]:
    """The paths of the dicts that hold the fields `names`."""
    for name in names:
        keys = split_path(name)
        yield from (join_path(keys[:i]) for i in range(1, len(keys)))


def _widen(found: FieldType, expected: FieldType | None) -> FieldType:
    """The expected type of a field if what was found is a case of it: titles may be dates, a length a whole number."""
    if expected in ("keyword", "text"):
        return expected if found in ("keyword", "datetime") else found
    return "float" if expected == "float" and found == "integer" else found


def _infer_type(name: str, values: Iterable[tuple[str | None, Any]], *, lenient: bool = False) -> FieldType | None:
    """The type of a field that holds these values, each with its uri; None where all are absent (None, an empty list).

    str is keyword; text if one is longer than 256 characters; datetime if all are ISO 8601 dates or datetimes.
    int is integer, int and float together float, {"lat", "lon"} geo; a list has the type of its elements.
    Raises MetadataError for values that have no type in common or are of no type that can be stored; if `lenient` they
    are passed over, and what most values are decides.
    """
    examples: dict[str, tuple[str | None, Any]] = {}  # kind -> where it was seen first
    numbers: Counter[str] = Counter()
    for uri, whole in values:
        held = unbox(whole, uri, name)
        for element in held if isinstance(held, list) else [held]:
            value = unbox(element, uri, name)
            if value is None:
                continue
            kind = kind_of(value)
            if kind is not None:
                examples.setdefault(kind, (uri, value))
                numbers[kind] += 1
            elif not lenient:
                raise misfit(uri, name, value, explain_unsupported(value))
    if not examples:
        return None
    if lenient:
        kinds: set[str] = set()
        for kind, _ in numbers.most_common():
            kinds |= {kind} if _join_kinds({*kinds, kind}) else set()
        return _join_kinds(kinds)
    if (joined := _join_kinds(set(examples))) is not None:
        return joined
    (one, (uri, first)), (other, (uri2, second)) = list(examples.items())[:2]
    away = f" (at {uri2})" if uri2 is not None and uri2 != uri else ""
    raise misfit(
        uri,
        name,
        first,
        f"looks like {_WORDS.get(one, one)}, but {describe_value(second)}{away} like {_WORDS.get(other, other)}; "
        "give all values of a field one type",
    )


def _join_kinds(kinds: set[str]) -> FieldType | None:
    """The type that values of these kinds have in common."""
    if kinds <= {"datetime", "moment"}:
        return "datetime"
    if kinds <= {"integer", "float"}:
        return "float" if "float" in kinds else "integer"
    if kinds <= {"keyword", "datetime", "text"}:
        return "text" if "text" in kinds else "keyword"
    return cast(FieldType, next(iter(kinds))) if len(kinds) == 1 else None
