"""Profiles: the metrics of a kind of device, with the accepted range of their values."""

from typing import Annotated, Any

from litestar import Request, Response, get, put
from litestar.di import NamedDependency
from litestar.params import PathParameter

from api.http.bodies import operation_with_body, read_body, require_same
from api.http.cursor import fingerprint, read_cursor
from api.http.pages import json_text, page
from api.http.params import Cursor, PageLimit
from api.store.registry import RegistryStore
from runtime.errors import InvalidRequest
from runtime.plain_words import pattern_in_words
from schema.registry import PROFILE_NAME, ProfileBody, is_profile_name

ProfileNamePath = Annotated[
    str, PathParameter(description="Name of the profile", schema_extra={"pattern": PROFILE_NAME})
]


@get("/v1/profiles", summary="Profiles, by name", tags=["Profiles"])
async def list_profiles(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("profiles")
    key = read_cursor(cursor, query_hash, 1)
    rows = await registry.profiles("" if key is None else str(key[0]), limit)
    return page(request, rows, limit, query_hash, lambda row: [row["name"]])


@get("/v1/profiles/{name:str}", summary="One profile", tags=["Profiles"])
async def one_profile(
    registry: NamedDependency[RegistryStore], name: ProfileNamePath
) -> Response[bytes]:
    return json_text(await registry.profile(name))


@put(
    "/v1/profiles/{name:str}",
    operation_class=operation_with_body(ProfileBody.model_json_schema()),
    summary="Create a profile, or replace all of it",
    description="It applies, in every process, to every event received after the response.",
    tags=["Profiles"],
)
async def put_profile(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    name: ProfileNamePath,
) -> Response[bytes]:
    if not is_profile_name(name):
        raise InvalidRequest(f"name: it must be {pattern_in_words(PROFILE_NAME)}.")
    body = await read_body(request, ProfileBody)
    require_same("name", body.name, name)
    created = await registry.put_profile(name, body)
    return json_text(await registry.profile(name), status=201 if created else 200)
