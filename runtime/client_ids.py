"""The client ids of our own sessions. No device may have one of these names."""

import re


def ingest_client_id(instance: str, number: int = 1) -> str:
    """The client id of a member. The first has no number, so its session continues when members are added."""
    return f"{instance}-ingest" + (f"-{number}" if number > 1 else "")


def relay_client_id(instance: str) -> str:
    """The client id of the relay. It is older than that name, and brokers have rights for it."""
    return f"{instance}-delivery"


def is_own_client_id(instance: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(instance)}-(ingest(-\d+)?|delivery)", name) is not None
