"""A `voltwire` command that kills itself at the worst moment.

Run it as `python -m tests.support.processes.failpoints POINT ingest`; the points are:

before_commit   after decoding, before a batch's transaction begins: nothing is stored or acknowledged
after_commit    after the commit, before anything is settled: stored, but not answered

FAIL_AFTER_BATCHES (default 0) batches with events are written first. The product contains no fail points.
"""

import os
import signal
import sys
from typing import NoReturn

from cli.main import main
from ingestor.batch import Batch, Written
from ingestor.store.transaction import Store

BEFORE_COMMIT, AFTER_COMMIT = "before_commit", "after_commit"


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL is not survived")


def install(point: str, batches: int) -> None:
    """Install the fail point; the batches of both writers count."""
    write = Store.write
    left = batches

    async def write_and_fail(store: Store, batch: Batch) -> Written:
        nonlocal left
        if not batch.rows:
            return await write(store, batch)
        left -= 1
        if left < 0 and point == BEFORE_COMMIT:
            _kill()
        written = await write(store, batch)
        if left < 0:
            _kill()
        return written

    setattr(Store, "write", write_and_fail)  # noqa: B010  # mypy knows methods, not functions.


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    assert chosen in {BEFORE_COMMIT, AFTER_COMMIT}, chosen
    install(chosen, int(os.environ.get("FAIL_AFTER_BATCHES", "0")))
    main()
