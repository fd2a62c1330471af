"""The key that commands show to the API, and what a refusal means."""

from collections.abc import Mapping
from http import HTTPStatus

from runtime.errors import StartError
from runtime.settings import Settings


def key_header(settings: Settings) -> dict[str, str]:
    """Nothing without API_KEY: a system without authentication needs none."""
    if settings.api_key is None:
        return {}
    return {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}


def require_admitted(status_code: int, url: str, sent: Mapping[str, str]) -> None:
    """Raises StartError if the API does not accept the key, or wants one."""
    if status_code == HTTPStatus.FORBIDDEN:
        raise StartError(f"API_KEY may not do this at {url}: use a key with the scope admin.")
    if status_code == HTTPStatus.UNAUTHORIZED and "Authorization" in sent:
        raise StartError(f"API_KEY is no valid key at {url}: see voltwire key list.")
    if status_code == HTTPStatus.UNAUTHORIZED:
        raise StartError(
            f"{url} wants a key: set API_KEY to the secret that voltwire key create NAME --scope admin shows."
        )
