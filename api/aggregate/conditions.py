"""Conditions: `where` on another metric of the same event, `having` on a statistic of a row. Pure."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from api.aggregate.stats import Stat
from runtime.errors import InvalidRequest
from schema.rule import Op

CONDITIONS_MAX = 16  # Per query, of each kind.

_CONDITION = re.compile(
    r"(?P<name>[A-Za-z0-9_.:/%-]{1,128}) ?(?P<op>>=|<=|==|!=|>|<) ?(?P<number>\S+(?: \S+)?)"
)


@dataclass(frozen=True, slots=True)
class ValueCondition:
    """`name op number`, for instance velocity > 1."""

    name: str
    op: Op
    number: Decimal


def parse_where(texts: list[str]) -> tuple[ValueCondition, ...]:
    """Read conditions on metrics. Raises InvalidRequest."""
    return tuple(_parse("where", text, "velocity>1") for text in texts)


def parse_having(texts: list[str], stats: tuple[Stat, ...]) -> tuple[ValueCondition, ...]:
    """Read conditions on the statistics of a query. Raises InvalidRequest."""
    conditions = tuple(_parse("having", text, "avg<1") for text in texts)
    for condition in conditions:
        if condition.name not in set(stats):
            raise InvalidRequest(
                f"having: {condition.name[:64]!r} is not one of the requested statistics;"
                f" requested are {', '.join(stats)}."
            )
    return conditions


def _parse(parameter: str, text: str, example: str) -> ValueCondition:
    found = _CONDITION.fullmatch(text.strip(" "))
    if found is None:
        raise InvalidRequest(
            f"{parameter}: {text[:64]!r} must be a name, one of {', '.join(Op)}, and a number, for"
            f" instance {example}."
        )
    return ValueCondition(found["name"], Op(found["op"]), _number(parameter, found["number"]))


def _number(parameter: str, text: str) -> Decimal:
    """The decimal number that a double is written as, which is how values are stored."""
    try:
        number = float(text.replace(" ", "+"))  # A `+` in a query string arrives as a space.
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise InvalidRequest(f"{parameter}: {text[:64]!r} must be a finite number.")
    return Decimal(repr(number))
