"""What is wrong with a file of devices: everything is counted, and the first faults are shown."""

from runtime.errors import InvalidRequest

ROWS_MAX = 10_000
ROW_BYTES_MAX = 64 * 1024  # as the body of a PUT; a line of a CSV file has so many characters
FAULTS_SHOWN_MAX = 100
FIELD_CHARS_MAX = 200  # of a name that the caller wrote, in a fault

TOO_MANY_ROWS = f"more than {ROWS_MAX:,} rows: send several files. Nothing is imported."


class Faults:
    """`place` is what a fault names: the `line` of a CSV file, or the `item` of an array."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._count = 0
        self._shown: list[dict[str, str | int]] = []

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int, field: str, message: str) -> None:
        self._count += 1
        if len(self._shown) < FAULTS_SHOWN_MAX:
            shown = field[:FIELD_CHARS_MAX]
            self._shown.append({self._place: number, "field": shown, "message": message})

    def error(self) -> InvalidRequest:
        """The error that begins with the first fault."""
        first = self._shown[0]
        where = f"{self._place} {first[self._place]}"
        what = f"{first['field']}: {first['message']}" if first["field"] else str(first["message"])
        return InvalidRequest(
            f"{where}: {what}{self._others()}. Nothing is imported.", errors=self._shown
        )

    def _others(self) -> str:
        if self._count == 1:
            return ""
        listed = (
            "" if self._count <= FAULTS_SHOWN_MAX else f", of which {FAULTS_SHOWN_MAX} are listed"
        )
        return f"; {self._count} faults in all{listed}"
