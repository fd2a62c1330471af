"""Logins that the API of a running system makes, with an admin key."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

import httpx
import typer

from cli.device_logins.lifecycle import DeviceLogin
from runtime.errors import StartError

ANSWER_S_MAX = 10.0
AT_ONCE = 8
REMOVED = {HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND}


class ApiLogins:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._to_remove: set[str] = set()  # Without those for which the API refused a login.

    async def create(self, device_ids: Sequence[str]) -> dict[str, DeviceLogin]:
        """Raises StartError."""
        *others, newest = device_ids
        gate = asyncio.Semaphore(AT_ONCE)

        async def create(device_id: str) -> tuple[str, DeviceLogin]:
            async with gate:
                return device_id, await self._create(device_id)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(create(each)) for each in others]
        return dict([task.result() for task in tasks] + [await create(newest)])

    async def remove(self, device_ids: Sequence[str]) -> None:
        """What cannot be removed is named on standard error: the run itself is over."""
        try:
            for device_id in (each for each in device_ids if each in self._to_remove):
                response = await self._client.delete(f"/v1/devices/{device_id}/credentials")
                if response.status_code not in REMOVED:
                    raise _refused(response)
        except (httpx.TransportError, StartError) as error:
            typer.echo(
                f"The credentials of the devices are not all revoked ({error}): revoke them with"
                " voltwire device revoke.",
                err=True,
            )

    async def _create(self, device_id: str) -> DeviceLogin:
        """A device that has a secret, perhaps from a run that was killed, gets a new one."""
        path = f"/v1/devices/{device_id}/credentials"
        self._to_remove.add(device_id)
        try:
            response = await self._client.post(path)
            if response.status_code == HTTPStatus.CONFLICT:
                response = await self._client.post(f"{path}/rotate")
        except httpx.TransportError as error:
            raise StartError(
                f"{self._client.base_url} does not answer ({error or type(error).__name__}): start voltwire"
                " up or voltwire api there."
            ) from error
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self._to_remove.discard(device_id)
            raise _refused(response)
        body = response.json()
        return DeviceLogin(body["login"], body["secret"])


def _refused(response: httpx.Response) -> StartError:
    return StartError(
        f"{response.request.method} {response.request.url.path} was answered {response.status_code}:"
        " API_KEY must be a valid admin key of this system."
    )
