"""Everything that Voltwire raises on purpose.

VoltwireError
├── ConfigurationError     the settings contradict each other; the message lists every fault
├── StartError             a role cannot start here: port or folder in use, a program missing, a wrong version
├── StoreError             the database did not take a batch
│   ├── StoreUnavailable   not now: connection, timeout, disk, permission; the same batch is tried again
│   │   └── NoPartition    not now, unless our clock was wrong: the event lies outside the accepted window
│   └── BatchRefused       never: the data itself is refused; the batch is split until the bad row is alone
├── BrokerUnavailable      the broker did not take a message: no connection, no PUBACK in time, or it refused
├── Deferred               a job of the scheduler cannot go on now: its next run does
├── Overloaded             a bounded queue is full or a deadline passed: the caller asks again later
└── RequestError           a caller's mistake over HTTP
    ├── InvalidRequest     422: a parameter or body that means nothing
    ├── RawEventsDropped   422: the question needs raw events that retention has dropped
    ├── NotFound           404: the device, rule, incident or profile in the path
    ├── Conflict           409: what is to be created exists
    ├── TooManyRequests    429: over the rate limit of the device
    ├── PayloadTooLarge    413
    └── UnsupportedMediaType  415

api/http/problems.py alone turns them into status codes; cli/main.py into exit codes.
"""

from datetime import UTC, datetime


class VoltwireError(Exception):
    """The root. The message is one sentence that says what to do."""


class ConfigurationError(VoltwireError):
    pass


class StartError(VoltwireError):
    pass


class StoreError(VoltwireError):
    pass


class StoreUnavailable(StoreError):
    pass


class NoPartition(StoreUnavailable):
    pass


class BatchRefused(StoreError):
    """PostgreSQL refused the data (SQLSTATE class 22, 23 or 54).

    `row` is the position of the refused event in the COPY, where PostgreSQL named it.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class BrokerUnavailable(VoltwireError):
    pass


class Deferred(VoltwireError):
    pass


class Overloaded(VoltwireError):
    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestError(VoltwireError):
    pass


class InvalidRequest(RequestError):
    """`reason` is a code that programs may compare; `errors` names each field at fault."""

    def __init__(
        self, message: str, *, reason: str | None = None, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.errors = errors or []


class RawEventsDropped(RequestError):
    """`available_from` is the first instant that can be asked for."""

    def __init__(self, available_from: datetime) -> None:
        super().__init__(
            f"Raw events before {available_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} are no longer kept:"
            " start the range there or later."
        )
        self.available_from = available_from


class NotFound(RequestError):
    pass


class Conflict(RequestError):
    pass


class TooManyRequests(RequestError):
    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PayloadTooLarge(RequestError):
    pass


class UnsupportedMediaType(RequestError):
    pass
