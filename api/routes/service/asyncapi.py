"""`/asyncapi`: the MQTT side, as a document for programs and as a page for browsers."""

from enum import StrEnum
from typing import Annotated, Any

from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.asyncapi.document import asyncapi_document
from api.asyncapi.page import POLICY, asyncapi_page
from api.auth.caller import caller
from api.http.addresses import mqtt_url
from api.http.params import known_name
from runtime.settings import Settings


class AsyncapiFormat(StrEnum):
    HTML = "html"
    JSON = "json"


@get("/asyncapi", include_in_schema=False)
async def asyncapi(
    request: Request[Any, Any, Any],
    settings: NamedDependency[Settings],
    format_name: Annotated[
        str | None, QueryParameter(name="format", description="html or json")
    ] = None,
) -> Response[Any]:
    """Strangers get the address of the broker only if PUBLIC_MQTT_URL names it."""
    address = settings.public_mqtt_url
    if not settings.authenticated or caller().credential is not None:
        address = mqtt_url(settings, str(request.base_url))
    document = asyncapi_document(address, authenticated=settings.authenticated)
    headers = {"Vary": "Accept, Authorization, Cookie", "Cache-Control": "no-cache"}
    if _format(format_name, request.headers.get("accept", "")) is AsyncapiFormat.JSON:
        return Response(document, headers=headers)
    headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(asyncapi_page(document), media_type=MediaType.HTML, headers=headers)


def _format(named: str | None, accept: str) -> AsyncapiFormat:
    """Browsers name text/html; a program that names nothing gets the document."""
    if named is not None:
        return known_name("format", named, AsyncapiFormat)
    return AsyncapiFormat.HTML if "text/html" in accept.lower() else AsyncapiFormat.JSON
