"""Why a notification did not get through."""

from runtime.errors import VoltwireError


class DeliveryFailed(VoltwireError):
    """`retry` says whether the same notification may get through later. The message holds no secret."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry
