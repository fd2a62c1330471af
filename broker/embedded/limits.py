"""What the embedded broker allows, and a log line for each limit once a minute."""

import asyncio
import resource
from collections.abc import Callable
from time import monotonic

import structlog

# Connections beyond it are closed at once. Our own sessions have the reserve to themselves.
CONNECTIONS_MAX = 5000
CONNECTIONS_RESERVE = 50
FILES_RESERVE = 100  # Files of the process that are no connections.

# Sessions, connected or away: a new one is refused (CONNACK 3). Our own are not counted.
SESSIONS_MAX = 10_000

# CONNECTs of one client id, on average and at once: one more is refused (CONNACK 3), and the connection that
# it would have replaced stays. Our own sessions may connect as often as they like.
CONNECTS_PER_S = 1.0
CONNECTS_BURST_S = 60.0

# Messages of QoS 2 that a client has not released with PUBREL: one more ends the connection.
UNRELEASED_MAX = 1000

# Filters of one client: another one is refused (SUBACK 0x80).
FILTERS_MAX = 100

# All filters together, except those of our own sessions: another one is refused (SUBACK 0x80). A level of a
# filter takes so many bytes beside its text.
FILTERS_BYTES_MAX = 256 * 1024 * 1024
FILTER_LEVEL_BYTES = 500

# The signs / in a topic or filter, as in Mosquitto: with more it is malformed.
SLASHES_MAX = 200

# Retained messages: one beyond is delivered and not kept. Our own (alerts, presence) have no limit.
RETAINED_DEVICE_TOPICS_MAX = 100_000  # The topics that devices publish to.
RETAINED_OTHER_TOPICS_MAX = 1000
RETAINED_BYTES_MAX = 64 * 1024 * 1024

# The first packet, and each later one that is no PUBLISH: a larger one ends the connection.
SMALL_PACKET_BYTES_MAX = 64 * 1024

CONNECT_S_MAX = 10  # From the connection to the last byte of CONNECT.
PACKET_S_MAX = 60  # From the first byte of a later packet to its last.

# The event loop handles other clients after so many steps: a packet, a filter, a delivery, a retained topic.
# A payload counts as a step for each of these bytes, too.
STEPS_MAX = 100
STEP_BYTES = 10_000

LOG_EVERY_S = 60.0

log = structlog.get_logger()


def connections_max() -> int:
    """Less than the constant where the system allows the process fewer open files."""
    others = CONNECTIONS_RESERVE + FILES_RESERVE
    files = _open_files_max(CONNECTIONS_MAX + others)
    return max(1, min(CONNECTIONS_MAX, files - others))


def _open_files_max(wanted: int) -> int:
    """Raise the limit of the process towards `wanted`, as far as an ordinary user may; return it."""
    soft, hard = (
        wanted if each == resource.RLIM_INFINITY else each
        for each in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft >= wanted:
        return soft
    files = min(wanted, max(soft, hard))
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    except (OSError, ValueError):  # macOS has a further limit of its own.
        return soft
    return files


class LimitLog:
    """A warning for each kind of refusal, at most once a minute, with the number since the last one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._count: dict[str, int] = {}

    def report(self, sentence: str, **fields: object) -> None:
        now = self._clock()
        count = self._count[sentence] = self._count.get(sentence, 0) + 1
        if now - self._logged_at.get(sentence, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged_at[sentence], self._count[sentence] = now, 0
            log.warning(sentence, count=count, **fields)


class Pace:
    """Lets the event loop handle other clients in the middle of long work.

    However many tasks have long work, one of them does its next steps in each iteration of the loop.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._turn = asyncio.Lock()

    async def step(self, size: int = 0) -> None:
        self._steps += 1 + size // STEP_BYTES
        if self._steps >= STEPS_MAX:
            self._steps = 0
            async with self._turn:
                await asyncio.sleep(0)
