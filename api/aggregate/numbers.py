"""Columns of numbers, for msgspec to write in the form that every response has."""

import asyncio
import math
from contextlib import suppress
from typing import Annotated

import msgspec

from schema.event import PLAIN_MAX, json_form

VALUES_AT_ONCE = 1_000  # In the slow form, within 5 ms.

Number = float | msgspec.Raw | None

_Integer = Annotated[int, msgspec.Meta(gt=-int(PLAIN_MAX), lt=int(PLAIN_MAX))]
_Fraction = Annotated[float, msgspec.Meta(gt=-1e8, lt=1e8)]
_decoder = msgspec.json.Decoder(list[_Integer | _Fraction | None])
# What may be too small for the ordinary form, and what may be a whole number as a double.
_UNUSUAL = (",0.0000", "-0.0000", ".00000000", ".99999999")


async def numbers(decimals: str) -> list[Number]:
    """The values of comma-separated decimals without trailing zeros.

    Null stands for null and for what is beyond a double. What msgspec would write in another form, as 1e16 or
    40.0, is written already: by `json_form`, which is slow, so only where a column holds such a number.
    """
    if not any(part in f",{decimals}" for part in _UNUSUAL):
        with suppress(msgspec.MsgspecError):  # Raised if one of them is too large.
            return list(_decoder.decode(f"[{decimals}]"))
    texts, values = decimals.split(","), list[Number]()
    for start in range(0, len(texts), VALUES_AT_ONCE):
        values += map(_in_form, texts[start : start + VALUES_AT_ONCE])
        await asyncio.sleep(0)
    return values


def _in_form(decimal: str) -> Number:
    if decimal == "null":
        return None
    value = float(decimal) + 0.0  # -0.0 becomes 0.0.
    return None if math.isinf(value) else json_form(value)
