"""The client ids of our own sessions. No device may have one of these names."""

import re


def ingest_client_id(instance: str, number: int = 1) -> str:
    """That of a member; the first has no number, so its session continues when members are added."""
    return f"{instance}-ingest" + (f"-{number}" if number > 1 else "")


def delivery_client_id(instance: str) -> str:
    return f"{instance}-delivery"


def is_own_client_id(instance: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(instance)}-(ingest(-\d+)?|delivery)", name) is not None
