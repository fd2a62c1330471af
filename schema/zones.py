"""Time zones by their IANA names."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@cache
def zone_names() -> frozenset[str]:
    """Read from disk once; `localtime` and `Factory` have a different meaning on every server."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


@cache
def zone_named(name: str) -> ZoneInfo:
    """Raises KeyError for a zone that this server does not know."""
    return ZoneInfo(name)
