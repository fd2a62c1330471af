"""Keys, and the credentials of devices. A secret is shown once, in the response that made it."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from pydantic import BaseModel, ConfigDict, Field

from api.http.bodies import operation_with_body, read_body
from api.http.cursor import fingerprint, read_cursor
from api.http.pages import ONCE, page
from api.http.params import Cursor, DeviceIdPath, PageLimit
from api.store.credentials import CredentialStore
from runtime.errors import InvalidRequest
from schema.access.credentials import (
    KEY_NAME,
    OVERLAP_S_MAX,
    KeyName,
    ListedCredential,
    ListedDeviceCredentials,
    Scope,
    device_login,
)
from schema.instants import rfc3339
from schema.registry import BAD_DEVICE_ID, is_device_id

KeyNamePath = Annotated[
    str, PathParameter(description="Name of the key", schema_extra={"pattern": KEY_NAME})
]


class NewKeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: KeyName
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]


class RotationBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    overlap_s: Annotated[
        float,
        Field(
            strict=True, ge=0, le=OVERLAP_S_MAX, description="Seconds for which the former one stays valid"
        ),
    ] = 0  # fmt: skip


@get("/v1/keys", summary="Keys, by name", tags=["Access"])
async def list_keys(
    request: Request[Any, Any, Any],
    credentials: NamedDependency[CredentialStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("keys")
    key = read_cursor(cursor, query_hash, 1)
    found = await credentials.keys("" if key is None else str(key[0]), limit)
    rows = [{"name": each.name, "body": _shown(each)} for each in found]
    return page(request, rows, limit, query_hash, lambda row: [row["name"]])


@post(
    "/v1/keys",
    operation_class=operation_with_body(NewKeyBody.model_json_schema()),
    summary="Create a key",
    description="The secret is shown in this response and never again.",
    tags=["Access"],
)
async def add_key(
    request: Request[Any, Any, Any], credentials: NamedDependency[CredentialStore]
) -> Response[dict[str, Any]]:
    body = await read_body(request, NewKeyBody)
    scopes = sorted(set(body.scopes))
    secret = await credentials.add_key(body.name, scopes)
    return _once({"name": body.name, "scopes": scopes, "secret": secret}, 201)


@delete(
    "/v1/keys/{name:str}",
    summary="Revoke a key",
    description="It is refused from now on, and its sessions and streams end. The last admin key stays.",
    tags=["Access"],
)
async def delete_key(credentials: NamedDependency[CredentialStore], name: KeyNamePath) -> None:
    await credentials.delete_key(name)


@get("/v1/credentials", summary="Devices with a secret or certificates, by name", tags=["Access"])
async def list_device_credentials(
    request: Request[Any, Any, Any],
    credentials: NamedDependency[CredentialStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("credentials")
    key = read_cursor(cursor, query_hash, 1)
    found = await credentials.devices("" if key is None else str(key[0]), limit)
    rows = [{"device_id": each.device_id, "body": _shown_device(each)} for each in found]
    return page(request, rows, limit, query_hash, lambda row: [row["device_id"]])


@post(
    "/v1/devices/{device_id:str}/credentials",
    summary="Create the secret of a device, or accept its certificates",
    description="The device need not exist yet. The secret is shown in this response and never again.",
    tags=["Access"],
)
async def add_credentials(
    credentials: NamedDependency[CredentialStore],
    device_id: DeviceIdPath,
    certificate: Annotated[
        bool | None,
        QueryParameter(
            description="true: accept client certificates with this CN; no secret is made"
        ),
    ] = None,
) -> Response[dict[str, Any]]:
    if not is_device_id(device_id):
        raise InvalidRequest(BAD_DEVICE_ID)
    if certificate:
        await credentials.accept_certificate(device_id)
        return _once({"device_id": device_id, "login": device_login(device_id)}, 201)
    secret = await credentials.add_secret(device_id)
    return _once({"device_id": device_id, "login": device_login(device_id), "secret": secret}, 201)


@post(
    "/v1/devices/{device_id:str}/credentials/rotate",
    status_code=200,
    operation_class=operation_with_body(RotationBody.model_json_schema(), required=False),
    summary="Replace the secret of a device",
    description="The former one stays valid for `overlap_s`. On Mosquitto the new one counts when that ends.",
    tags=["Access"],
)
async def rotate_credentials(
    request: Request[Any, Any, Any],
    credentials: NamedDependency[CredentialStore],
    device_id: DeviceIdPath,
) -> Response[dict[str, Any]]:
    body = await read_body(request, RotationBody) if await request.body() else RotationBody()
    overlap_s = int(body.overlap_s) if body.overlap_s % 1 == 0 else body.overlap_s
    secret = await credentials.rotate_secret(device_id, overlap_s)
    return _once(
        {
            "device_id": device_id,
            "login": device_login(device_id),
            "secret": secret,
            "overlap_s": overlap_s,
        }
    )


@delete(
    "/v1/devices/{device_id:str}/credentials",
    summary="Revoke the secrets and certificates of a device",
    description="They are refused at once over HTTP, and the device is cut off by the broker within 5 s.",
    tags=["Access"],
)
async def revoke_credentials(
    credentials: NamedDependency[CredentialStore], device_id: DeviceIdPath
) -> None:
    await credentials.revoke_device(device_id)


def _once(body: dict[str, Any], status: int = 200) -> Response[dict[str, Any]]:
    return Response(body, status_code=status, headers=ONCE)


def _shown(key: ListedCredential) -> str:
    shown = {
        "name": key.name,
        "scopes": key.scopes,
        "created_at": rfc3339(key.created_at),
        "last_used_at": None if key.last_used_at is None else rfc3339(key.last_used_at),
    }
    return msgspec.json.encode(shown).decode()


def _shown_device(device: ListedDeviceCredentials) -> str:
    shown = {
        "device_id": device.device_id,
        "login": device_login(device.device_id),
        "secret": device.secret,
        "certificate": device.certificate,
        "created_at": rfc3339(device.created_at),
        "last_used_at": None if device.last_used_at is None else rfc3339(device.last_used_at),
    }
    return msgspec.json.encode(shown).decode()
