"""Every error that Voltwire raises on purpose.

VoltwireError
├── ConfigurationError     the settings contradict each other; the message lists every fault
├── StartError             a role cannot start here: port or folder in use, program missing, wrong version
├── StoreError             the database did not take a batch
│   ├── StoreUnavailable   for now: connection, timeout, disk, permission; the same batch is retried
│   │   └── NoPartition    retried too, unless our clock was wrong: the event is outside the accepted window
│   └── BatchRefused       for good: the data is refused; the batch is split until the bad row is alone
├── BrokerUnavailable      the broker did not take a message: no connection, no PUBACK in time, or refused
├── NotOwner               this login does not own the tables; the message names the setting to change
├── Deferred               a scheduler job cannot continue now; its next run will
├── Overloaded             a bounded queue is full or a deadline passed; the caller retries later
└── RequestError           a caller's mistake over HTTP
    ├── InvalidRequest     422: an invalid parameter or body
    ├── RawEventsDropped   422: the query needs raw events that retention has dropped
    ├── NotFound           404: the device, rule, incident or profile in the path
    ├── NotAuthenticated   401: no credential, or a wrong one
    ├── Forbidden          403: the credential is right, and may not do this
    ├── Conflict           409: the resource to create exists
    ├── TooManyRequests    429: over the rate limit of the device
    ├── PayloadTooLarge    413
    └── UnsupportedMediaType  415

Only api/http/problems.py turns them into status codes, and only cli/main.py into exit codes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime


class VoltwireError(Exception):
    """The root. Each message is one sentence that says what to do."""


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

    `row` is the position of the refused event in the COPY if PostgreSQL named it.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class BrokerUnavailable(VoltwireError):
    pass


class NotOwner(VoltwireError):
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
    """`reason` is a code for programs; `errors` names each invalid field."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        errors: Sequence[Mapping[str, str | int]] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.errors = errors


class RawEventsDropped(RequestError):
    """`available_from` is the earliest instant that can be queried."""

    def __init__(self, available_from: datetime) -> None:
        super().__init__(
            f"Raw events before {available_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} are no longer kept:"
            " start the range there or later."
        )
        self.available_from = available_from


class NotFound(RequestError):
    pass


class NotAuthenticated(RequestError):
    pass


class Forbidden(RequestError):
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


def innermost(error: BaseException) -> BaseException:
    """The first error of a group, however deeply nested; any other error unchanged."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise the first error of these kinds without the group that a TaskGroup raises it in.

    A group that holds any other error stays whole: an unexpected error must be seen in full.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, others = group.split(kinds)
        if expected is None or others is not None:
            raise
        raise innermost(expected) from None
