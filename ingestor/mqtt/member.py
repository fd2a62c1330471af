"""The members of an instance: the ingestors that share its messages, their names and subscriptions.

A single member receives everything. Several share the telemetry: each message goes to one of them. Status
and heartbeat go to the first member only, because their order matters.
"""

import hmac
from dataclasses import dataclass

from broker import topics
from broker.topics import TopicKind
from runtime.client_ids import ingest_client_id

GROUP_CODE_CHARS = 32  # 128 bits.


@dataclass(frozen=True, slots=True)
class Member:
    """Member `number`, counted from 1, of `total`.

    The first member has the same client id whether it is alone or not. So its session continues when the
    number of members changes, with every status in order.
    """

    instance: str
    number: int = 1
    total: int = 1
    # The group of the shared subscriptions (`share_group`); several members need one.
    group: str = ""

    @property
    def name(self) -> str:
        """The prefix of the names of its database connections."""
        return f"{self.instance} ingest" + (f" {self.number}" if self.number > 1 else "")

    @property
    def client_id(self) -> str:
        return ingest_client_id(self.instance, self.number)

    @property
    def canary(self) -> str:
        return topics.canary(self.instance, self.number)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The canary is shared if the telemetry is, so that it proves the same path of delivery.

        No other member subscribes to its filter, so it always comes back to its sender.
        """
        telemetry, *status_and_heartbeat = topics.DEVICE_FILTERS
        own = status_and_heartbeat if self.number == 1 else []
        if self.total == 1:
            return (telemetry, *own, self.canary)
        return (self._shared(telemetry), *own, self._shared(self.canary))

    @property
    def optional_subscriptions(self) -> tuple[str, ...]:
        return (topics.DROPPED,) if self.number == 1 else ()

    @property
    def possible_subscriptions(self) -> tuple[str, ...]:
        """Every filter its session may have; that of the first may be older than table ingest_member."""
        alone = Member(self.instance).subscriptions if self.number == 1 else ()
        return tuple(sorted({*self.subscriptions, *alone}))

    def _shared(self, topic_filter: str) -> str:
        return topics.shared(self.group, topic_filter)


def share_group(instance: str, password: str | None) -> str:
    """The group of the shared subscriptions, which nobody can guess if we log in with a password.

    Mosquitto lets everybody join a group whose name they know, and asks its access list when it has chosen
    the member that gets a message: what it then denies to a stranger, nobody receives.
    """
    if password is None:
        return instance
    code = hmac.digest(password.encode(), b"shared subscriptions", "sha256")
    return f"{instance}-{code.hex()[:GROUP_CODE_CHARS]}"


assert topics.DEVICE_FILTERS[0].endswith(TopicKind.TELEMETRY)  # noqa: S101  # `subscriptions` relies on it.
