"""The AsyncAPI document: valid, about the topics of the broker package, with the messages that are sent."""

import json
import subprocess
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter, ValidationError

from api.asyncapi.channels import CHANNELS, PARAMETERS, Action
from api.asyncapi.document import asyncapi_document
from api.asyncapi.messages import MESSAGES, AlertMessage
from api.asyncapi.page import asyncapi_page
from api.openapi.shapes.devices import PresenceChangeResponse
from api.openapi.shapes.events import BatchItemResponse
from broker import topics
from broker.topics import TopicKind
from ingestor.decode.presence import read_status
from schema.alert import AlertState, alert
from schema.event import Reason, Status, Verdict
from schema.presence import presence_changed, silence_alert
from tests.support.http.asyncapi_schema import asyncapi_schema

URL = "mqtts://user:secret@broker.example:8883"
NOW = datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)
CHECK_JSONSCHEMA = Path(sysconfig.get_path("scripts")) / "check-jsonschema"


def checked(shape: Any, value: Any) -> Any:
    return TypeAdapter(shape).validate_python(json.loads(msgspec.json.encode(value)))


def test_it_follows_the_schema_of_asyncapi(tmp_path: Path) -> None:
    document = tmp_path / "asyncapi.json"
    document.write_text(json.dumps(asyncapi_document(URL, authenticated=True)))
    run = subprocess.run(
        [CHECK_JSONSCHEMA, "--schemafile", asyncapi_schema(tmp_path), document],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


def test_its_topics_are_those_of_the_broker_package() -> None:
    names = {name: f"{{{name}}}" for name in PARAMETERS}
    devices = {str(kind): topics.device(names["device_id"], kind) for kind in TopicKind}
    outgoing = {
        "receipts": topics.receipts(names["device_id"]),
        "alerts": topics.alert(names["device_id"], names["rule_id"]),
        "presence": topics.presence(names["device_id"]),
        "canary": topics.canary(names["instance"]),
        # The slugs of real names; the braces stand for them.
        "discovery": topics.discovery("I", "D").replace("I/D", "{instance}/{device_id}"),
    }
    assert {name: channel.address for name, channel in CHANNELS.items()} == devices | outgoing
    received = {name for name, each in CHANNELS.items() if each.action is Action.RECEIVE}
    assert received == devices.keys()
    for channel in CHANNELS.values():
        assert set(channel.parameters) == {
            name for name, text in names.items() if text in channel.address
        }


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi_document(URL, authenticated=True)

    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [found for each in value for found in references(each)]
        if not isinstance(value, dict):
            return []
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for each in value.values() for found in references(each)]

    assert references(document)
    for reference in references(document):
        target: Any = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]


@pytest.mark.parametrize("name", [name for name, each in MESSAGES.items() if each.shape])
def test_an_example_is_a_message_of_its_kind(name: str) -> None:
    assert MESSAGES[name].examples
    for example in MESSAGES[name].examples:
        TypeAdapter(MESSAGES[name].shape).validate_json(json.dumps(example))
    with pytest.raises(ValidationError):
        TypeAdapter(MESSAGES[name].shape).validate_json("[7]")


def test_every_status_of_the_examples_is_understood() -> None:
    signals = [read_status(json.dumps(each).encode()) for each in MESSAGES["status"].examples]
    assert [signal.reason for signal in signals if signal] == ["birth", "asleep", "will"]


def test_what_is_published_has_the_documented_shape() -> None:
    sent = alert(
        device_id="d1", metrics={"temp": 40.0}, time=NOW, incident_id=1, rule_id="r1", severity="warning",
        state=AlertState.FIRING, metric="temp", value=40, op=">", threshold=32, event_id="e1",
    )  # fmt: skip
    silent = silence_alert("d1", 2, NOW, AlertState.RESOLVED)
    for notification in (sent, silent):
        checked(AlertMessage, {**notification.body, "id": 3})
    for last_seen in (NOW, None):
        changed = presence_changed("d1", "offline", NOW, "silent", last_seen)
        checked(PresenceChangeResponse, {**changed.body, "id": 3})
    checked(
        BatchItemResponse, {"event_id": None, "status": Status.REJECTED, "reason": Reason.BAD_TIME}
    )
    assert set(BatchItemResponse.__annotations__) == set(Verdict.__struct_fields__) - {"detail"}


def test_the_address_of_the_broker_shows_no_login_and_only_where_it_is_given() -> None:
    shown = json.dumps(asyncapi_document(URL, authenticated=True))
    assert '"host": "broker.example:8883"' in shown
    assert "secure-mqtt" in shown
    assert "user:" not in shown
    assert "servers" not in asyncapi_document(None, authenticated=True)


def test_the_page_shows_every_topic_and_escapes_what_it_shows() -> None:
    document = asyncapi_document("mqtt://<b>:1883", authenticated=False)
    page = asyncapi_page(document)
    assert all(f"<code>{channel.address}</code>" in page for channel in CHANNELS.values())
    assert "<b>" not in page
    assert "<script" not in page
    assert " src=" not in page
    assert "http:" not in page
    assert "wake_in_s" in page
