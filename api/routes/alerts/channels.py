"""Channels: where alerts leave for people and programs."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import PathParameter

from api.alerts.channels import ChannelStore
from api.http.bodies import operation_with_body, read_body, require_same
from api.http.cursor import fingerprint, read_cursor
from api.http.pages import SHOWN_ONCE, json_text, page
from api.http.params import Cursor, PageLimit
from runtime.errors import InvalidRequest, NotFound
from runtime.plain_words import pattern_in_words
from schema.channels.body import CHANNEL_NAME, ChannelBody, NewChannelBody, is_channel_name

ChannelNamePath = Annotated[
    str, PathParameter(description="Name of the channel", schema_extra={"pattern": CHANNEL_NAME})
]


@get("/v1/channels", summary="Channels, by name", tags=["Alerts"])
async def list_channels(
    request: Request[Any, Any, Any],
    channels: NamedDependency[ChannelStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("channels")
    key = read_cursor(cursor, query_hash, 1)
    rows = await channels.page("" if key is None else str(key[0]), limit)
    return page(request, rows, limit, query_hash, lambda row: [row["name"]])


@post(
    "/v1/channels",
    operation_class=operation_with_body(NewChannelBody.model_json_schema()),
    summary="Create a channel",
    description="It gets the notifications of rules that name it, from the next one on. For a webhook"
    " without a `secret` one is made, which the response shows, and nothing after it.",
    tags=["Alerts"],
)
async def add_channel(
    request: Request[Any, Any, Any], channels: NamedDependency[ChannelStore]
) -> Response[bytes]:
    return await _added(channels, await read_body(request, NewChannelBody))


@get("/v1/channels/{name:str}", summary="One channel, with its failures", tags=["Alerts"])
async def one_channel(
    channels: NamedDependency[ChannelStore], name: ChannelNamePath
) -> Response[bytes]:
    return json_text(await channels.one(name))


@put(
    "/v1/channels/{name:str}",
    operation_class=operation_with_body(ChannelBody.model_json_schema()),
    summary="Create a channel, or change its address or secret",
    description="What is absent stays as it is.",
    tags=["Alerts"],
)
async def put_channel(
    request: Request[Any, Any, Any],
    channels: NamedDependency[ChannelStore],
    name: ChannelNamePath,
) -> Response[bytes]:
    if not is_channel_name(name):
        raise InvalidRequest(f"name: it must be {pattern_in_words(CHANNEL_NAME)}.")
    body = await read_body(request, ChannelBody)
    require_same("name", body.name, name)
    try:
        await channels.change(name, body)
    except NotFound:
        if body.url is None:
            raise
        return await _added(
            channels, NewChannelBody(**body.model_dump(exclude={"name"}), name=name)
        )
    return json_text(await channels.one(name))


@delete(
    "/v1/channels/{name:str}",
    summary="Delete a channel",
    description="What it has not delivered yet is dropped. Rules may go on naming it.",
    tags=["Alerts"],
)
async def delete_channel(channels: NamedDependency[ChannelStore], name: ChannelNamePath) -> None:
    await channels.delete(name)


@post(
    "/v1/channels/{name:str}/test",
    status_code=200,
    summary="Send a test message now",
    description="The response says whether the channel took it, after up to 40 s.",
    tags=["Alerts"],
)
async def send_test(
    channels: NamedDependency[ChannelStore], name: ChannelNamePath
) -> dict[str, Any]:
    failure = await channels.test(name)
    if failure is None:
        return {"status": "delivered"}
    return {"status": "failed", "failure": failure}


async def _added(channels: ChannelStore, body: NewChannelBody) -> Response[bytes]:
    secret = await channels.add(body)
    shown = await channels.one(body.name)
    if secret is None:
        return json_text(shown, status=201)
    with_secret = msgspec.json.encode({**msgspec.json.decode(shown), "secret": secret})
    return json_text(with_secret, SHOWN_ONCE, status=201)
