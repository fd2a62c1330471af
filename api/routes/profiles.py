"""Profiles: what is known of the metrics of a kind of device, and what their values may be."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Request, Response, get, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import PathParameter

from api.http.bodies import inlined, json_body, read_body, require_same
from api.http.cursor import question, read_cursor
from api.http.pages import json_text, page
from api.http.params import Cursor, PageLimit
from api.store.registry import RegistryStore
from runtime.errors import InvalidRequest
from schema.registry import PROFILE_NAME, ProfileBody, is_profile_name

ProfileNamePath = Annotated[
    str, PathParameter(description="Name of the profile", schema_extra={"pattern": PROFILE_NAME})
]


@dataclass
class PutProfileOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = json_body(inlined(ProfileBody.model_json_schema()))


@get("/v1/profiles", summary="Profiles, by name", tags=["Profiles"])
async def list_profiles(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    asked = question("profiles")
    key = read_cursor(cursor, asked, 1)
    rows = await registry.profiles("" if key is None else str(key[0]), limit)
    return page(request, rows, limit, asked, lambda row: [row["name"]])


@get("/v1/profiles/{name:str}", summary="One profile", tags=["Profiles"])
async def one_profile(
    registry: NamedDependency[RegistryStore], name: ProfileNamePath
) -> Response[bytes]:
    return json_text(await registry.profile(name))


@put(
    "/v1/profiles/{name:str}",
    operation_class=PutProfileOperation,
    summary="Create a profile, or replace it as a whole",
    description="In force, in every process, for each event received after the answer.",
    tags=["Profiles"],
)
async def put_profile(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    name: ProfileNamePath,
) -> Response[bytes]:
    if not is_profile_name(name):
        raise InvalidRequest(f"name: the name of a profile has the form {PROFILE_NAME}.")
    body = await read_body(request, ProfileBody)
    require_same("name", body.name, name)
    created = await registry.put_profile(name, body)
    return json_text(await registry.profile(name), status=201 if created else 200)
