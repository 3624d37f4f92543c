"""Messages about changed objects are understood in every wrapping, and rubbish is refused with the reason."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.worker.events.messages import LONGEST_MESSAGE, Change, parse_events, read_lines


def record(key: str = "cats/cat.jpg", event: str = "ObjectCreated:Put", *, source: str = "aws:s3") -> dict[str, Any]:
    """One record of the documented structure."""
    return {
        "eventVersion": "2.2",
        "eventSource": source,
        "awsRegion": "us-east-1",
        "eventTime": "1970-01-01T00:00:00.000Z",
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "all",
            "bucket": {"name": "photos", "ownerIdentity": {"principalId": "A3"}, "arn": "arn:aws:s3:::photos"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055"},
        },
    }


def notification(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records) or [record()]})


def bridged(kind: str, key: str) -> str:
    detail = {"version": "0", "bucket": {"name": "photos"}, "object": {"key": key, "size": 5}, "request-id": "N4N7"}
    return json.dumps({"version": "0", "detail-type": kind, "source": "aws.s3", "detail": detail})


CAT = [Change("s3://photos/cats/cat.jpg")]


def test_a_notification_tells_what_was_created_and_what_was_removed_in_its_order() -> None:
    message = notification(
        record("a.jpg"),
        record("b.jpg", "ObjectRemoved:DeleteMarkerCreated"),
        record("c.jpg", "LifecycleExpiration:Delete"),
        record("d.jpg", "ObjectCreated:CompleteMultipartUpload"),
        record("e.jpg", "ObjectRestore:Completed"),
    )

    assert [(change.uri[-5:], change.removed) for change in parse_events(message)] == [
        ("a.jpg", False),
        ("b.jpg", True),
        ("c.jpg", True),
        ("d.jpg", False),
        ("e.jpg", False),
    ]


@pytest.mark.parametrize("event", ["ObjectTagging:Put", "ObjectAcl:Put", "LifecycleTransition", "ObjectRestore:Post"])
def test_what_leaves_the_bytes_alone_is_no_change(event: str) -> None:
    assert parse_events(notification(record(event=event))) == []


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("red+flower.jpg", "red flower.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("caf%C3%A9/%E6%97%A5.jpg", "café/日.jpg"),
        ("line%0Abreak.jpg", "line\nbreak.jpg"),
    ],
)
def test_the_key_of_a_notification_is_decoded(encoded: str, key: str) -> None:
    assert parse_events(notification(record(encoded))) == [Change(f"s3://photos/{key}")]


def test_minio_has_a_key_of_its_own_beside_the_records() -> None:
    inner = record("cats%2Fcat.jpg", "s3:ObjectCreated:Put", source="minio:s3")

    message = json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": "photos/cats/cat.jpg", "Records": [inner]})

    assert parse_events(message) == CAT


def test_the_key_of_a_ceph_notification_is_taken_as_it_is() -> None:
    assert parse_events(notification(record("a+b%20.jpg", source="ceph:s3"))) == [Change("s3://photos/a+b%20.jpg")]


def test_eventbridge_keys_are_taken_as_they_are() -> None:
    assert parse_events(bridged("Object Created", "a+b c.jpg")) == [Change("s3://photos/a+b c.jpg")]
    assert parse_events(bridged("Object Deleted", "a.jpg")) == [Change("s3://photos/a.jpg", removed=True)]
    assert parse_events(bridged("Object Tags Added", "a.jpg")) == []


def test_messages_inside_messages_are_found() -> None:
    sns = json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": notification()})

    assert parse_events(sns) == CAT
    assert parse_events(json.dumps({"MessageId": "1", "Body": notification()})) == CAT
    assert parse_events(json.dumps({"MessageId": "1", "Body": sns})) == CAT
    assert parse_events(json.dumps({"Messages": [{"Body": sns}, {"Body": bridged("Object Created", "x.png")}]})) == [
        *CAT,
        Change("s3://photos/x.png"),
    ]
    assert parse_events(json.dumps({"Records": [{"eventSource": "aws:sqs", "body": notification()}]})) == CAT
    assert parse_events(json.dumps({"Records": [{"EventSource": "aws:sns", "Sns": json.loads(sns)}]})) == CAT


def test_plain_objects_name_any_uri() -> None:
    assert parse_events(b'{"uri": "file:///photos/cat.jpg"}') == [Change("file:///photos/cat.jpg")]
    assert parse_events('[{"uri": "gs://b/a.jpg", "removed": true}, {"uri": "gs://b/c.jpg"}]') == [
        Change("gs://b/a.jpg", removed=True),
        Change("gs://b/c.jpg"),
    ]


def test_test_events_and_empty_ones_tell_nothing() -> None:
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos", "RequestId": "5582", "HostId": "8cLe"}

    assert parse_events(json.dumps(test)) == []
    assert parse_events(json.dumps({"Type": "Notification", "Message": json.dumps(test)})) == []
    assert parse_events('{"Records": []}') == []
    assert parse_events("[]") == []


def test_a_subscription_that_waits_for_confirmation_is_told_with_its_link(caplog: pytest.LogCaptureFixture) -> None:
    link = (
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:x&Token=2336"
    )
    asked = {"Type": "SubscriptionConfirmation", "SubscribeURL": link, "Message": "confirm!"}

    assert parse_events(json.dumps(asked)) == []
    assert f"if you made it, and only then, open {link}" in caplog.text


@pytest.mark.parametrize(
    "link",
    [
        "https://sns.example/confirm",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com.example/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/?Token=" + "a" * 100_000,
        "https://sns.eu-west-1.amazonaws.com/?Token=1\nopen https://example",
        None,
        ["https://sns.eu-west-1.amazonaws.com/?Token=1"],
    ],
)
def test_a_link_that_leads_elsewhere_is_never_shown(link: object, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_events(json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": link})) == []
    assert caplog.messages == [
        "a message that asks to confirm a subscription was ignored: its link is none of Amazon SNS"
    ]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (
            "s3://photos/" + "a" * 20_000,
            "a uri of 20012 characters is longer than the 16384 of the longest: 's3://photo",
        ),
        ("s3://photos/" + "a/" * 400, "a uri of 403 folders is deeper than the 256 of the deepest: 's3://photos/a/a"),
        ("s3://photos/" + "a" * 5000 + "\ud800", "'s3://photos/aaa"),
    ],
)
def test_a_name_of_any_length_or_depth_is_refused_and_shown_in_part(uri: str, reason: str) -> None:
    key = uri.removeprefix("s3://photos/")
    for event in (json.dumps({"uri": uri}), notification(record(key)), bridged("Object Created", key)):
        with pytest.raises(ConfigError) as refusal:
            parse_events(event)
        assert f"cannot use this event: {reason}" in str(refusal.value)
        assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "it is no JSON"),
        ("hello", "it is no JSON .*'hello'"),
        (b"\xff\xfe\xfa", "it is no JSON"),
        ("17", "expected an object or an array, not 17"),
        ('{"a": 1}', r"neither an S3 event notification nor \{\"uri\": \"…\", \"removed\": false\}: \{'a': 1\}"),
        ('{"uri": 3}', "expected .*not {'uri': 3}"),
        ('{"uri": ""}', "expected"),
        ('{"uri": "a", "removed": "yes"}', "expected"),
        ('{"uri": "\\ud800.jpg"}', "no Unicode text"),
        ('{"Message": "hello"}', "it is no JSON .*'hello'"),
        ('{"Body": 5}', "not 5"),
        (notification({"eventName": "ObjectCreated:Put", "s3": {}}), "names no bucket and key"),
        (notification({"eventName": "ObjectCreated:Put", "s3": {"bucket": [], "object": {}}}), "names no bucket"),
        (notification(record("%FF%FE.jpg")), "key '%FF%FE.jpg' is no UTF-8"),
        ('{"detail-type": "Object Created", "detail": null}', "names no bucket and key"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" * 50 + "]" * 50, "nested more than 8 deep"),
    ],
)
def test_rubbish_is_refused_with_the_reason(message: str | bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot use this event: .*{reason}"):
        parse_events(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["Records", "s3", "Message", "Body", "Sns", "detail-type", "detail", "uri"]),
            inner,
        )
    ),
)


@given(JSON | st.text() | st.binary())
def test_whatever_comes_it_is_understood_or_refused(document: Any) -> None:
    message = document if isinstance(document, bytes) else json.dumps(document)
    try:
        changes = parse_events(message)
    except ConfigError as error:
        assert len(str(error)) < 400
    else:
        assert all(change.uri.encode() for change in changes)


def test_a_bad_line_is_logged_and_the_next_ones_are_read(caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        b'{"uri": "file:///1.jpg"}',
        b"rubbish",
        b"",
        b"\xff",
        b'"' + b"x" * (3 * LONGEST_MESSAGE) + b'"',
        notification().encode(),
        b'{"uri": "file:///2.jpg", "removed": true}',  # the last, without a line's end
    ]
    with caplog.at_level(logging.WARNING):
        changes = list(read_lines(io.BytesIO(b"\n".join(lines))))

    assert changes == [Change("file:///1.jpg"), *CAT, Change("file:///2.jpg", removed=True)]
    assert [record.getMessage()[:30] for record in caplog.records] == [
        "cannot use this event: it is n",
        "cannot use this event: it is n",
        "an event of more than 1048576 ",
    ]
