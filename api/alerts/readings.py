"""Stored readings for back-tests, from PostgreSQL's binary COPY: a year of minutes takes half a second."""

import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from ingestor.alerts.evaluation import SECOND_US, Reading

# int16 number of fields; each field has an int32 length: int32 device, int64 time, float64 value.
_ROW = struct.Struct(">hiiiqid")
_DEVICE = itemgetter(2)
_HEADER = len(b"PGCOPY\n\xff\r\n\0") + 8
_EPOCH_US = 946_684_800 * SECOND_US  # 2000-01-01, from which PostgreSQL counts microseconds


class CopyReader:
    """Rows of (int4, timestamptz, float8), none of them null, from pieces of a binary COPY.

    The source of a reading is its rank among the readings of its device at its time, from 0.
    """

    def __init__(self) -> None:
        self._rest, self._in_header = b"", True
        self._device_no, self._at, self._rank = 0, -1, 0
        self.rows = 0

    def devices(self, piece: bytes) -> Iterator[tuple[int, Iterator[Reading[int]]]]:
        """The readings that the piece completes, by device; each must be read before the next."""
        data = self._rest + piece
        if self._in_header:
            if len(data) < _HEADER:
                self._rest = data
                return
            data, self._in_header = data[_HEADER:], False
        whole = len(data) // _ROW.size * _ROW.size
        self._rest = data[whole:]
        self.rows += whole // _ROW.size
        for device_no, rows in groupby(_ROW.iter_unpack(memoryview(data)[:whole]), _DEVICE):
            if device_no != self._device_no:
                self._device_no, self._at = device_no, -1
            yield device_no, self._readings(rows)

    def _readings(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Reading[int]]:
        last, rank = self._at, self._rank
        for _, _, _, _, pg_us, _, value in rows:
            at = pg_us + _EPOCH_US
            rank = rank + 1 if at == last else 0
            last = at
            yield at, value, rank
        self._at, self._rank = last, rank
