"""How commands reach the API: the address, the key, and what a failure means."""

import os
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from runtime.errors import StartError, innermost
from runtime.settings import Settings

if TYPE_CHECKING:  # Commands that do not need it start faster.
    import httpx


def _checked(url: str | None) -> str | None:
    if url is not None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise typer.BadParameter("an address such as http://127.0.0.1:8000")
    return url


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        callback=_checked,
        help="The address of the API.",
        show_default="from HTTP_HOST and HTTP_PORT",
    ),
]


def api_client(
    url: str, headers: Mapping[str, str], timeout: "float | httpx.Timeout"
) -> "httpx.AsyncClient":
    """It ignores HTTP_PROXY, which also catches 127.0.0.1, and trusts the machine's certificates."""
    import httpx  # noqa: PLC0415

    return httpx.AsyncClient(
        base_url=url,
        headers=dict(headers),
        timeout=timeout,
        trust_env=False,
        verify=ssl.create_default_context(),
    )


def key_header(settings: Settings) -> dict[str, str]:
    """Nothing without API_KEY: a system without authentication needs none."""
    if settings.api_key is None:
        return {}
    return {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}


def require_admitted(
    status_code: int, url: str, sent: Mapping[str, str], scope: str = "admin"
) -> None:
    """Raises StartError if the API does not accept the key, or wants one with this scope."""
    if status_code == HTTPStatus.FORBIDDEN:
        raise StartError(f"API_KEY may not do this at {url}: use a key with the scope {scope}.")
    if status_code == HTTPStatus.UNAUTHORIZED and "Authorization" in sent:
        raise StartError(f"API_KEY is no valid key at {url}: see voltwire key list.")
    if status_code == HTTPStatus.UNAUTHORIZED:
        raise StartError(
            f"{url} wants a key: set API_KEY to the secret that voltwire key create NAME --scope {scope}"
            " shows."
        )


def no_response(url: str, error: Exception) -> StartError:
    return StartError(
        f"{url} does not respond ({error_text(error)}): start voltwire up or voltwire api there,"
        " or name another address with --url."
    )


def not_voltwire(url: str) -> StartError:
    return StartError(
        f"What answers at {url} is not a Voltwire of this version: name another address with --url, or stop"
        " that program."
    )


def error_text(error: BaseException) -> str:
    """The message of the error of the network below it, if there is one; else its own, or its name."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.errno:
            return os.strerror(below.errno)
        below = innermost(below).__cause__ or innermost(below).__context__
    return str(error) or type(error).__name__


def without_credentials(url: str) -> str:
    """The URL without user name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
