"""How many bytes of request bodies a process holds at a time."""

SMALL_BODY_BYTES = 64 * 1024  # A body up to this size may use all of the budget,
LARGE_SHARE = 0.75  # larger ones this share, so that single posts pass beside large batches.


class BodyBudget:
    """The bytes of all bodies that were received and belong to requests without a response yet."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.large_bytes_max = bytes_max, bytes_max * LARGE_SHARE
        self.bytes, self.large_bytes = 0, 0  # `large_bytes` of `bytes`


class HeldBody:
    """What one connection holds of the budget for the body that it receives."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes, self.large = 0, False  # `large` from its announced length, or since it grew

    def take(self, more: int) -> bool:
        """Whether the process may hold so many bytes more of this body."""
        budget, held = self._budget, self._bytes + more
        if self.large or held > SMALL_BODY_BYTES:
            return self._take_large(more)
        if budget.bytes + more > budget.bytes_max:
            return False
        budget.bytes += more
        self._bytes = held
        return True

    def give_back(self) -> None:
        self._budget.bytes -= self._bytes
        if self.large:
            self._budget.large_bytes -= self._bytes
        self._bytes = 0

    def _take_large(self, more: int) -> bool:
        if not self.large:  # In chunks, and large after all.
            more += self._bytes
            self.give_back()
            self.large = True
        budget = self._budget
        if (
            budget.bytes + more > budget.bytes_max
            or budget.large_bytes + more > budget.large_bytes_max
        ):
            return False
        budget.bytes += more
        budget.large_bytes += more
        self._bytes += more
        return True
