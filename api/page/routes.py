"""`/` and the files of the page. Everybody may read them: what they show comes from the API."""

from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from api.page.files import ICON, MEDIA_TYPES, PageFiles
from runtime.errors import NotFound

# Nothing of another site, nothing inline, and no text that becomes HTML (Trusted Types).
POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
UNCHANGING = {"cache-control": "public, max-age=31536000, immutable", **HEADERS}
DAY_S = 86_400


def page_handlers(page: PageFiles) -> list[HTTPRouteHandler]:
    """The routes of one version of the page."""
    etag = f'"{page.content_hash}"'
    fresh = {"cache-control": "no-cache", "etag": etag, **HEADERS}

    @get("/", include_in_schema=False)
    async def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        known = request.headers.get("if-none-match", "")
        if etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=fresh)
        return Response(page.index, media_type="text/html", headers=fresh)

    @get("/page/{content_hash:str}/{name:path}", include_in_schema=False)
    async def page_file(
        content_hash: Annotated[str, PathParameter()], name: Annotated[str, PathParameter()]
    ) -> Response[bytes]:
        file = page.files.get(str(name).removeprefix("/"))
        if file is None or content_hash != page.content_hash:
            raise NotFound("This file is not of this version of the page: load the page again.")
        return Response(file.content, media_type=file.media_type, headers=UNCHANGING)

    @get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response[bytes]:
        headers = {"cache-control": f"public, max-age={DAY_S}", **HEADERS}
        return Response(page.files[ICON].content, media_type=MEDIA_TYPES[".svg"], headers=headers)

    return [index, page_file, icon]
