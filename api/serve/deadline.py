"""The next instant at which a connection is late, with one timer per connection.

Every request sets and clears several deadlines and nearly none is reached, so a timer for each of them costs
more than all else that is done about them. This timer is left alone: if it fires too early, it waits again.
"""

import asyncio
from collections.abc import Callable


class Deadline:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = self._due_at = 0.0
        self.late: Callable[[], None] | None = None  # what is called then; None: no deadline is set

    def set(self, within_s: float, late: Callable[[], None]) -> None:
        """It replaces the deadline that was set before."""
        self._due_at, self.late = self._loop.time() + within_s, late
        if self._timer is None or self._fires_at > self._due_at:
            self._wait()

    def clear(self) -> None:
        self.late = None

    def close(self) -> None:
        """No deadline is set after this."""
        self.late = None
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._due_at
        self._timer = self._loop.call_at(self._due_at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        late = self.late
        if late is None:
            return
        if self._loop.time() < self._due_at:
            self._wait()
        else:
            self.late = None
            late()
