"""`voltwire device import`: a file of registrations, over the API of a running system."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import UrlOption, api_client, key_header, no_response, require_admitted
from cli.output import AsJson, print_json, printable
from runtime.addresses import http_url
from runtime.errors import StartError
from runtime.settings import load_settings
from runtime.signals import fail_on_signals

if TYPE_CHECKING:  # Other commands start faster without it.
    import httpx

PATH = "/v1/devices/import"
RESPONSE_S_MAX = 60.0
IMPORTED = {HTTPStatus.OK, HTTPStatus.CREATED}


def import_devices(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(
            metavar="FILE", help="CSV, or JSON if it ends in .json; - is standard input."
        ),
    ],
    *,
    url: UrlOption = None,
    as_json: AsJson = False,
) -> None:
    """Register the devices of a file at the running API, all or none.

    The first line of a CSV file names the columns: device_id, name, profile, tags (separated by semicolons),
    interval_s, tz, attributes.NAME. A row replaces the whole registration of its device. API_KEY needs
    the scope admin if authentication is on.
    """
    fail_on_signals("Interrupted: the devices may be imported; import the file again.")
    response = asyncio.run(_sent(file, url))
    body = _document(response)
    if as_json:
        print_json(body)
    elif response.status_code in IMPORTED:
        same = body["devices"] - body["created"] - body["changed"]
        typer.echo(
            f"{body['created']} devices are new, {body['changed']} changed, {same} stay as they were."
        )
    if response.status_code not in IMPORTED:
        if not as_json:
            _show(body.get("errors", ()))
        raise StartError(printable(body["detail"]))


async def _sent(file: IO[bytes], url: str | None) -> "httpx.Response":
    """Raises StartError if there is no response, or the key is refused."""
    import httpx  # noqa: PLC0415

    settings = load_settings()
    base, key = url or http_url(settings.http_host, settings.http_port), key_header(settings)
    kind = "application/json" if Path(file.name).suffix.lower() == ".json" else "text/csv"
    try:
        async with api_client(base, key | {"Content-Type": kind}, RESPONSE_S_MAX) as client:
            response = await client.post(PATH, content=file.read())
    except httpx.TransportError as error:
        raise no_response(base, error) from error
    require_admitted(response.status_code, base, key)
    return response


def _document(response: "httpx.Response") -> Any:
    try:
        return response.json()
    except ValueError:
        raise StartError(
            f"{response.url} is not Voltwire: stop that program, or name another address with --url."
        ) from None


def _show(faults: Sequence[Mapping[str, Any]]) -> None:
    """A row per fault, on standard error."""
    table = Table(box=None, show_header=False)
    for fault in faults:
        place = "line" if "line" in fault else "item"
        cells = (f"{place} {fault.get(place, '')}", fault["field"], fault["message"])
        table.add_row(*map(printable, cells))
    if table.row_count:
        Console(stderr=True, soft_wrap=True, markup=False).print(table)
