"""Events: the body on the wire, the accepted event, the rejection, the verdict."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, NewType, NotRequired

import msgspec
from pydantic import ConfigDict, Field, StringConstraints, with_config
from typing_extensions import TypedDict

from schema.instants import from_epoch_us

DeviceNo = NewType("DeviceNo", int)

MAX_ITEMS = 1000
MAX_METRICS = 256  # of one event
MAX_EXACT_INTEGER = 2**53
SEQ_STEP_MAX = 1_000_000  # A larger step of `seq` is no gap but the beginning of a new run.
PLAIN_MIN, PLAIN_MAX = 1e-4, 1e15  # Numbers without an exponent, in every way of writing them,
PLAIN_DIGITS = 6  # and so are smaller ones with up to six decimals.
# Prefixes of generated ids: derived from the event's time and content, or random if it has no identity.
AUTO_ID, RANDOM_ID = "auto-", "random-"

# The id of a device and the name of a profile, also inside a topic.
ID = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
DEVICE_ID = f"^{ID}$"
DeviceId = Annotated[str, StringConstraints(pattern=DEVICE_ID)]
EventId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,128}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/%-]{1,128}$")]
MetricValue = Annotated[float, Field(allow_inf_nan=False)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\x00]{1,128}$")]
MetricValues = Annotated[dict[MetricName, MetricValue], Field(min_length=1, max_length=MAX_METRICS)]


@with_config(ConfigDict(strict=True, extra="ignore"))
class EventBody(TypedDict):
    """One event as JSON, the same over MQTT and HTTP. At most one of the four times may be given."""

    event_id: NotRequired[EventId]
    device_id: NotRequired[DeviceId]
    timestamp: NotRequired[
        Annotated[
            str,
            Field(description="RFC 3339; without an offset in the `tz` of its device, else UTC"),
        ]
    ]
    timeStamp: NotRequired[Annotated[str, Field(description="Alias of timestamp")]]
    ts: NotRequired[Annotated[int, Field(description="Epoch milliseconds")]]
    age_ms: NotRequired[Annotated[int, Field(ge=0, description="Milliseconds before arrival")]]
    metrics: MetricValues
    tags: NotRequired[Annotated[list[Tag], Field(max_length=32)]]
    seq: NotRequired[Annotated[int, Field(ge=0, le=MAX_EXACT_INTEGER - 1)]]


class Reason(StrEnum):
    """Why an event or a payload was rejected. The codes are public; docs/http-api.md lists them."""

    MALFORMED_JSON = "malformed_json"
    NO_ITEMS = "no_items"
    TOO_MANY_ITEMS = "too_many_items"
    TOO_LARGE = "too_large"
    NOT_AN_OBJECT = "not_an_object"
    NOT_AN_ARRAY = "not_an_array"
    UNKNOWN_FIELD = "unknown_field"
    BAD_EVENT_ID = "bad_event_id"
    BAD_DEVICE_ID = "bad_device_id"
    DEVICE_MISMATCH = "device_mismatch"
    BAD_TIME = "bad_time"
    SEVERAL_TIMES = "several_times"
    TOO_OLD = "too_old"
    OLDER_THAN_RETENTION = "older_than_retention"
    IN_THE_FUTURE = "in_the_future"
    BAD_METRICS = "bad_metrics"
    BAD_METRIC_NAME = "bad_metric_name"
    BAD_METRIC_VALUE = "bad_metric_value"
    BAD_TAGS = "bad_tags"
    BAD_SEQ = "bad_seq"
    NO_IDENTITY = "no_identity"
    OUT_OF_RANGE = "out_of_range"
    REFUSED_BY_DATABASE = "refused_by_database"
    BAD_STATUS = "bad_status"
    UNREADABLE = "unreadable"


class Door(StrEnum):
    MQTT = "mqtt"
    HTTP = "http"


class DuplicateReason(StrEnum):
    """What a duplicate is, if it is no resend."""

    OTHER_CONTENT = "other_content"  # The stored event has another own time: the id was used twice.


class Status(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


STORED, DUPLICATE, REJECTED = Status  # Python 3.11 takes 150 ns to look up a member by its name.


class Event(msgspec.Struct, gc=False):
    """An event that the database accepts. `metrics` holds ints where the value is integral.

    `ts_us` and `received_us` are microseconds since the Unix epoch. `item` is the index in the array that
    the event arrived in. `own_time`: it has `timestamp` or `ts`, so every copy of it has the same time.
    `wall_us`: its time has no offset, and the clock of its device showed this, counted as if it were UTC;
    `ts_us` is right once the registry has placed it (ingestor/decode/wall_clock.py).
    """

    device_id: str
    event_id: str
    ts_us: int
    metrics: dict[str, float]
    tags: list[str]
    seq: int | None
    received_us: int
    item: int | None = None
    own_time: bool = True
    wall_us: int | None = None

    @property
    def ts(self) -> datetime:
        return from_epoch_us(self.ts_us)

    @property
    def received_at(self) -> datetime:
        return from_epoch_us(self.received_us)


@dataclass(slots=True)
class Rejection:
    """Becomes a dead letter. `item` is the index in the array, None for a whole payload."""

    reason: Reason
    detail: str
    payload: bytes
    received_at: datetime
    device_id: str | None = None
    event_id: str | None = None
    item: int | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one event, known only after the commit."""

    event_id: str | None
    status: Status
    reason: Reason | DuplicateReason | None = None
    detail: str | None = None


def json_number(value: float) -> float:
    """Return an integral value up to 2^53 as an int, so that JSON shows no decimal point."""
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT_INTEGER else value


def json_form(value: float) -> float | msgspec.Raw:
    """The number in the form of every response, like the SQL function `json_number` of the migrations.

    Only beyond PLAIN_MIN and PLAIN_MAX does msgspec write another form (1.5e19 and not 1.5e+19).
    """
    number = json_number(float(value))
    if isinstance(number, int) or PLAIN_MIN <= abs(number) < PLAIN_MAX:
        return number
    digits = Decimal(repr(number)).normalize()
    if abs(number) < 1 and int(digits.as_tuple().exponent) >= -PLAIN_DIGITS:
        return msgspec.Raw(f"{digits:f}".encode())
    mantissa, exponent = f"{digits:e}".split("e")
    return msgspec.Raw(f"{mantissa}e{int(exponent):+03d}".encode())
