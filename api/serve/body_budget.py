"""How many bytes of request bodies a process holds at a time."""

SMALL_BODY_BYTES = 64 * 1024  # A body up to this size may use all of the budget,
LARGE_SHARE = 0.75  # larger ones this share, so that single posts pass beside large batches.


class BodyBudget:
    """The bytes of all bodies that were received and belong to requests without an answer yet."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes, self._large_bytes = 0, 0

    def take(self, more: int, *, large: bool) -> bool:
        """Whether there is room for so many more bytes; then they count until they are given back."""
        if self._bytes + more > self._bytes_max:
            return False
        if large:
            if self._large_bytes + more > self._bytes_max * LARGE_SHARE:
                return False
            self._large_bytes += more
        self._bytes += more
        return True

    def give_back(self, taken: int, *, large: bool) -> None:
        self._bytes -= taken
        if large:
            self._large_bytes -= taken


class HeldBody:
    """What one connection holds of the budget for the body that it receives."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes, self._large = 0, False

    def expect(self, length: int | None) -> None:
        """`length` is the announced one; None: in chunks, so it is not known."""
        self._large = length is not None and length > SMALL_BODY_BYTES

    def take(self, more: int) -> bool:
        """Whether the process may hold so many bytes more of this body."""
        if not self._large and self._bytes + more > SMALL_BODY_BYTES:
            more += self._bytes  # In chunks, and large after all.
            self.give_back()
            self._large = True
        if not self._budget.take(more, large=self._large):
            return False
        self._bytes += more
        return True

    def give_back(self) -> None:
        self._budget.give_back(self._bytes, large=self._large)
        self._bytes = 0
