"""The flow for Node-RED and the automation for Home Assistant, checked without either."""

import json
import subprocess
from typing import Any

import yaml
from jinja2.sandbox import SandboxedEnvironment
from playwright._impl._driver import compute_driver_executable

from api.asyncapi.messages import ALERT
from broker import topics
from broker.topics import TopicKind
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.strict import decode
from runtime.settings import Settings
from schema.event import Event
from schema.instants import now_us
from tests.support.processes.services import ROOT

FLOW: list[dict[str, Any]] = json.loads((ROOT / "examples/node-red/flow.json").read_text("utf-8"))
NODE_JS, _ = compute_driver_executable()  # The one that Playwright brings.
NODES = {node["id"]: node for node in FLOW}
OF_NODE_RED = {
    "tab",
    "mqtt-broker",
    "inject",
    "function",
    "mqtt in",
    "mqtt out",
    "debug",
    "http request",
}
AUTOMATION = yaml.safe_load((ROOT / "examples/home-assistant/automation.yaml").read_text("utf-8"))


def test_the_flow_needs_nothing_but_node_red_and_every_wire_leads_to_a_node() -> None:
    assert len(NODES) == len(FLOW)
    assert {node["type"] for node in FLOW} == OF_NODE_RED
    wired = {target for node in FLOW for output in node.get("wires", ()) for target in output}
    assert wired <= NODES.keys()
    inner = {node["id"] for node in FLOW if "z" in node}
    first = {node["id"] for node in FLOW if node["type"] in {"inject", "mqtt in"}}
    assert inner == wired | first
    assert {node["z"] for node in FLOW if "z" in node} == {"voltwire-tab"}


def test_the_flow_uses_our_topics_with_qos_1() -> None:
    sending, receiving = NODES["send-event"], NODES["alerts"]
    assert topics.parse(sending["topic"]) == (TopicKind.TELEMETRY, "nodered-1")
    assert receiving["topic"] == "alerts/#"
    assert {sending["qos"], receiving["qos"]} == {"1"}
    assert {sending["broker"], receiving["broker"]} == {"voltwire-broker"}


def called(node: str, payload: Any) -> Any:
    """The payload that a function node hands on; None if it hands on nothing."""
    code = json.dumps(NODES[node]["func"])
    script = (
        f"const found = new Function('msg', {code})({{payload: {json.dumps(payload)}}});"
        " console.log(JSON.stringify(found && found.payload))"
    )
    done = subprocess.run([NODE_JS, "-e", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_events_of_the_flow_are_accepted() -> None:
    now = now_us()
    sent = called("make-event", now // 1000)
    [event] = decode(sent.encode(), Origin(now, "nodered-1"), AcceptLimits.of(Settings()))
    assert isinstance(event, Event), event
    assert event.ts_us == now // 1000 * 1000


def test_an_alert_becomes_a_sentence_and_what_clears_it_nothing() -> None:
    assert called("tell-alert", ALERT) == "deviceA: firing, temp is 40 (too hot)"
    assert called("tell-alert", "") is None


def rendered(template: str, payload: Any) -> str:
    trigger = {} if payload is None else {"payload_json": payload}
    return SandboxedEnvironment().from_string(template).render(trigger=trigger).strip()


def test_the_automation_tells_alerts_that_matter() -> None:
    [trigger], [condition], [action] = (
        AUTOMATION["triggers"], AUTOMATION["conditions"], AUTOMATION["actions"]
    )  # fmt: skip
    assert trigger == {"trigger": "mqtt", "topic": "alerts/#"}
    payloads = (ALERT, ALERT | {"late": True}, ALERT | {"muted": True}, None)
    told = [rendered(condition["value_template"], payload) for payload in payloads]
    assert told == ["True", "False", "False", "False"]
    title, message = action["data"]["title"], action["data"]["message"]
    assert rendered(title, ALERT) == "deviceA: too hot"
    assert rendered(message, ALERT) == "temp is 40 (> 32)."
    assert rendered(message, ALERT | {"state": "resolved"}) == "It is over."
    silent = ALERT | {"metric": None, "rule_name": None, "rule_id": "silent"}
    assert rendered(message, silent) == "It is silent."
    assert rendered(title, silent) == "deviceA: silent"
