"""Who receives: the members of an instance, their names, and what each subscribes to.

One alone takes everything. Several share the telemetry, each message going to one of them; what devices
say about themselves goes to the first alone, because its order matters.
"""

from dataclasses import dataclass

from broker import topics
from broker.topics import TopicKind


@dataclass(frozen=True, slots=True)
class Member:
    """Number `number`, from 1 on, of `total`.

    The first has the same client id whether it is alone or not. So its session goes on when members come
    or go, with every status in its order.
    """

    instance: str
    number: int = 1
    total: int = 1

    @property
    def name(self) -> str:
        """In the names of connections to the database."""
        return f"{self.instance} ingest" + (f" {self.number}" if self.number > 1 else "")

    @property
    def client_id(self) -> str:
        return f"{self.instance}-ingest" + (f"-{self.number}" if self.number > 1 else "")

    @property
    def canary(self) -> str:
        return topics.canary(self.instance, self.number)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The canary comes the way of the telemetry: shared, or what it proves would be another way.

        Nobody else subscribes to its filter, so nobody else gets it.
        """
        telemetry, *said = topics.DEVICE_FILTERS
        own = said if self.number == 1 else []
        if self.total == 1:
            return (telemetry, *own, self.canary)
        return (self._shared(telemetry), *own, self._shared(self.canary))

    @property
    def optional_subscriptions(self) -> tuple[str, ...]:
        return (topics.DROPPED,) if self.number == 1 else ()

    @property
    def possible_subscriptions(self) -> tuple[str, ...]:
        """Of the first one the session may be older than the table that remembers it."""
        alone = Member(self.instance).subscriptions if self.number == 1 else ()
        return tuple(sorted({*self.subscriptions, *alone}))

    def _shared(self, topic_filter: str) -> str:
        return topics.shared(self.instance, topic_filter)


assert topics.DEVICE_FILTERS[0].endswith(TopicKind.TELEMETRY)  # noqa: S101  # As Member takes them apart.
