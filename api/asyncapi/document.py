"""The AsyncAPI 3.0 document of the MQTT side."""

from functools import cache
from typing import Any
from urllib.parse import urlsplit

from api.asyncapi.channels import CHANNELS
from api.asyncapi.messages import JSON, MESSAGES
from runtime.version import VERSION

LOGIN = "login"
DESCRIPTION = (
    "Telemetry of battery devices over MQTT 3.1.1 and 5. The actions are those of Voltwire: it receives what"
    " devices send. The topic names the device; an event whose body names another one is rejected."
)
SECURITY_SCHEMES = {
    LOGIN: {
        "type": "userPassword",
        "description": "A device logs in as its device_id with its secret, a key as `_key.` and its name.",
    }
}


def asyncapi_document(mqtt_url: str | None, *, authenticated: bool) -> dict[str, Any]:
    """`mqtt_url` is the address of the broker, if the reader may know it."""
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": "Voltwire over MQTT", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": JSON,
    }
    if mqtt_url is not None:
        document["servers"] = {"broker": _server(mqtt_url, authenticated=authenticated)}
    return document | _contents()


@cache
def _contents() -> dict[str, Any]:
    """What is the same for every reader."""
    return {
        "channels": {name: channel.document() for name, channel in CHANNELS.items()},
        "operations": {
            f"{channel.action}_{name}": channel.operation(name)
            for name, channel in CHANNELS.items()
        },
        "components": {
            "messages": {name: message.document(name) for name, message in MESSAGES.items()},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _server(url: str, *, authenticated: bool) -> dict[str, Any]:
    parts = urlsplit(url)
    server: dict[str, Any] = {
        "host": parts.netloc.rpartition("@")[2],
        "protocol": "secure-mqtt" if parts.scheme == "mqtts" else "mqtt",
        "description": "The broker as a device reaches it",
    }
    if authenticated:
        server["security"] = [{"$ref": f"#/components/securitySchemes/{LOGIN}"}]
    return server
