"""Messages that say which objects of a source changed: S3 event notifications, and plain lines.

Understood are the notifications of S3, MinIO and Ceph, alone or inside messages of SNS, SQS and Lambda, EventBridge
events, and `{"uri": "s3://bucket/cat.jpg", "removed": false}`; a JSON array holds several.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from clip_qdrant.errors import ConfigError, shorten
from clip_qdrant.uris import LONGEST_URI

__all__ = ["LONGEST_MESSAGE", "Change", "parse_events", "read_lines"]

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 1 << 20  # bytes; SNS and SQS stop at 256 KiB (SQS since 2025 at 1 MiB)
_DEEPEST = 8  # SQS around SNS around S3 takes five
_SHOWN = 80  # characters of what was not understood
_DEEPEST_NAME = 256  # folders in a uri; a path of 4,096 bytes could have 2,047, and nobody's has

# Where Amazon confirms a subscription. The link of a forged message leads nowhere else, and is never shown.
_SNS_LINK = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/\?[\w=&:%.~-]{1,2000}")

# Where one message is inside another, as an object, a list, or JSON in a string.
_WRAPPERS = ("Records", "Messages", "Body", "body", "Message", "Sns")
_CREATED = ("ObjectCreated:", "ObjectRestore:Completed", "ObjectRestore:Post:Completed")
_REMOVED = ("ObjectRemoved:", "LifecycleExpiration:")
_BRIDGE_CREATED = frozenset({"Object Created", "Object Restore Completed"})
_BRIDGE_REMOVED = frozenset({"Object Deleted"})


@dataclass(frozen=True, slots=True)
class Change:
    """The object at `uri` is new or has changed, or is `removed`."""

    uri: str
    removed: bool = False


def parse_events(text: str | bytes) -> list[Change]:
    """The changes that a message tells of, in its order; none for a test event and for what leaves the bytes alone.

    Raises ConfigError for what is no JSON and for JSON that is no such message.
    """
    return list(_find_changes(_parse_json(text), 0))


def read_lines(stream: BinaryIO) -> Iterator[Change]:
    """The changes from a stream of messages, one a line, as they come. What is none is logged and passed over."""
    while line := stream.readline(LONGEST_MESSAGE + 1):
        if len(line) > LONGEST_MESSAGE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_MESSAGE)
            logger.warning("an event of more than %d bytes was passed over", LONGEST_MESSAGE)
        elif line.strip():
            try:
                yield from parse_events(line)
            except ConfigError as error:
                logger.warning("%s", error)


def _find_changes(document: Any, depth: int) -> Iterator[Change]:
    if depth > _DEEPEST:
        raise ConfigError(f"cannot use this event: its messages are nested more than {_DEEPEST} deep")
    if isinstance(document, list):
        for one in document:
            yield from _find_changes(one, depth + 1)
        return
    if not isinstance(document, dict):
        raise ConfigError(f"cannot use this event: expected an object or an array, not {_shorten(document)}")
    if "uri" in document:
        yield _read_plain(document)
    elif isinstance(document.get("s3"), dict):
        yield from _read_notification(document)
    elif "detail-type" in document:
        yield from _read_bridge_event(document)
    elif document.get("Event") == "s3:TestEvent":
        return
    elif document.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        _tell_subscription(document)
    else:
        yield from _unwrap(document, depth)


def _tell_subscription(document: Mapping[str, Any]) -> None:
    link = document.get("SubscribeURL")
    if isinstance(link, str) and _SNS_LINK.fullmatch(link):
        logger.warning("SNS asks to confirm a subscription; if you made it, and only then, open %s", link)
    else:
        logger.warning("a message that asks to confirm a subscription was ignored: its link is none of Amazon SNS")


def _unwrap(document: Mapping[str, Any], depth: int) -> Iterator[Change]:
    name = next((name for name in _WRAPPERS if name in document), None)
    if name is None:
        raise ConfigError(
            "cannot use this event: it is neither an S3 event notification nor "
            f'{{"uri": "…", "removed": false}}: {_shorten(document)}'
        )
    inner = document[name]
    yield from _find_changes(_parse_json(inner) if isinstance(inner, str) else inner, depth + 1)


def _parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ConfigError("cannot use this event: it is nested too deeply") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise ConfigError(f"cannot use this event: it is no JSON ({error}): {_shorten(text)}") from error


def _read_plain(document: Mapping[str, Any]) -> Change:
    uri, removed = document["uri"], document.get("removed", False)
    if not isinstance(uri, str) or not uri or not isinstance(removed, bool):
        raise ConfigError(f'cannot use this event: expected {{"uri": "…", "removed": false}}, not {_shorten(document)}')
    return Change(_check_uri(uri), removed)


def _read_notification(record: Mapping[str, Any]) -> Iterator[Change]:
    event = str(record.get("eventName", "")).removeprefix("s3:")
    removed = event.startswith(_REMOVED)
    if removed or event.startswith(_CREATED):
        bucket, key = _bucket_and_key(record["s3"], record)
        # Ceph gives the key as it is; the others as in an HTML form.
        yield _make_change(bucket, key, removed, encoded=not str(record.get("eventSource", "")).startswith("ceph"))


def _read_bridge_event(event: Mapping[str, Any]) -> Iterator[Change]:
    kind = str(event["detail-type"])
    removed = kind in _BRIDGE_REMOVED
    if removed or kind in _BRIDGE_CREATED:
        bucket, key = _bucket_and_key(event.get("detail"), event)
        yield _make_change(bucket, key, removed, encoded=False)


def _bucket_and_key(told: Any, event: Mapping[str, Any]) -> tuple[str, str]:
    try:
        bucket, key = told["bucket"]["name"], told["object"]["key"]
    except (KeyError, TypeError):
        bucket = key = None
    if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
        raise ConfigError(f"cannot use this event: it names no bucket and key: {_shorten(event)}")
    return bucket, key


def _make_change(bucket: str, key: str, removed: bool, *, encoded: bool) -> Change:
    try:
        name = unquote_plus(key, errors="strict") if encoded else key
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot use this event: the key {_shorten(key)} is no UTF-8") from error
    return Change(_check_uri(f"s3://{bucket}/{name}"), removed)


def _check_uri(uri: str) -> str:
    """The uri of an object. JSON can hold half a character, which no store takes; and names of any length and depth."""
    if len(uri) > LONGEST_URI:
        raise ConfigError(
            f"cannot use this event: a uri of {len(uri)} characters is longer than the {LONGEST_URI} "
            f"of the longest: {_shorten(uri)}"
        )
    if (depth := uri.count("/")) > _DEEPEST_NAME:
        raise ConfigError(
            f"cannot use this event: a uri of {depth} folders is deeper than the {_DEEPEST_NAME} "
            f"of the deepest: {_shorten(uri)}"
        )
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"cannot use this event: {_shorten(uri)} is no Unicode text") from error
    return uri


def _shorten(value: object) -> str:
    return shorten(repr(value), _SHOWN)
