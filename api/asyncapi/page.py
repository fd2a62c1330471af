"""The AsyncAPI document as a page: plain HTML without scripts, so it works offline and under any policy."""

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2.5rem 0 0.25rem; font-size: 1.2rem; overflow-wrap: anywhere }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8886; border-radius: 4px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0 }
td { border-top: 1px solid #8886 }
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
WHO = {"receive": "Devices publish here.", "send": "Voltwire publishes here."}


def asyncapi_page(document: dict[str, Any]) -> str:
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head>',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>{_servers(document)}",
        '<p><a href="?format=json">The AsyncAPI document as JSON</a> &middot; ',
        '<a href="/docs">the HTTP side</a></p>',
    ]
    parts += [_channel(document, operation) for operation in document["operations"].values()]
    return "".join([*parts, "</main></body></html>"])


def _servers(document: dict[str, Any]) -> str:
    servers = document.get("servers", {}).values()
    return "".join(f"<p>Broker: <code>{escape(server['host'])}</code></p>" for server in servers)


def _channel(document: dict[str, Any], operation: dict[str, Any]) -> str:
    channel = _followed(document, operation["channel"])
    mqtt = operation["bindings"]["mqtt"]
    kept = ", retained" if mqtt["retain"] else ""
    messages = [_followed(document, message) for message in channel["messages"].values()]
    return (
        f"<section><h2><code>{escape(channel['address'])}</code></h2>"
        f"<p>{WHO[operation['action']]} QoS {mqtt['qos']}{kept}. {_text(channel['description'])}</p>"
        f"{''.join(map(_message, messages))}</section>"
    )


def _message(message: dict[str, Any]) -> str:
    examples = "".join(
        f"<pre>{_json(each['payload'])}</pre>" for each in message.get("examples", ())
    )
    schema = message["payload"]
    if not schema:
        return examples
    return (
        f"{_fields(_object(schema))}{examples}"
        f"<details><summary>JSON Schema</summary><pre>{_json(schema)}</pre></details>"
    )


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """The first object in it: the one kind of item that the message holds."""
    if "properties" in schema:
        return schema
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return next((found for each in inner if (found := _object(each))), {})


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{'required' if name in required else ''}</td>"
        f"<td>{_text(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    head = "<tr><th>field</th><th>type</th><th></th><th></th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""


def _kind(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"array of {_kind(field['items'])}"
    return str(field.get("format") or field.get("type", "anything"))


def _followed(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """The target of a reference, through references to it."""
    while "$ref" in value:
        target: Any = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        value = target
    return value


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)


def _text(markdown: str) -> str:
    """A sentence in which names of code stand between backticks."""
    parts = escape(markdown).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
