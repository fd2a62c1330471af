"""The MQTT door: deliveries become messages of the pipeline, a settled message is acknowledged."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable

from broker import topics
from broker.client.session import Delivery
from broker.topics import TopicKind
from ingestor.batch import Message
from ingestor.decode.acceptance import Origin
from ingestor.decode.presence import HEARTBEAT, TELEMETRY, read_status
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
from ingestor.mqtt.receipts import Receipts
from ingestor.pipeline import Pipeline
from runtime.metrics import Dropped
from schema.event import Door
from schema.instants import now_us

OTHER = "other"
TOPICS_MAX = 100_000  # Parsed ones that are remembered: 30 MB.

Content = tuple[str, bytes, bool]  # Topic, payload, and whether it was a retained message.


class MqttDoor:
    """Holds one window of messages, however often the link is cut in an outage.

    A message that the broker sends again on a new connection, while its first copy still waits for the
    database, is taken as that copy.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settle: Callable[[Delivery], None],
        hearing: CanaryMonitor,
        drops: DropWatch,
        receipts: Receipts,
        messages: Counter[tuple[str, int]],
    ) -> None:
        self._pipeline, self._settle, self._hearing = pipeline, settle, hearing
        self._drops, self._receipts, self._messages = drops, receipts, messages
        self._parsed: dict[str, tuple[TopicKind, str]] = {}
        self._open = True
        self._generation = 0
        # What waits since an earlier connection, in the order of arrival.
        self._orphans: defaultdict[Content, deque[Message]] = defaultdict(deque)

    def close(self) -> None:
        """Take nothing more: what comes stays unacknowledged and comes again."""
        self._open = False

    def abandon(self) -> None:
        """Another ingestor works now: what waits here says nothing new about who is there."""
        for message in self._pipeline.unsettled():
            message.sign = None

    def receive(self, delivery: Delivery) -> None:
        if not self._open:
            return
        self._hearing.came()
        parsed = self._parsed.get(delivery.topic) or self._parse(delivery.topic)
        if parsed is None:
            self._take_other(delivery)
            return
        kind, device_id = parsed
        self._messages[kind, delivery.qos] += 1
        if delivery.generation != self._generation:
            self._begin_generation(delivery.generation)
        if kind is TopicKind.TELEMETRY:
            self._take_telemetry(device_id, delivery)
        else:
            self._take_sign(kind, device_id, delivery)

    def _take_telemetry(self, device_id: str, delivery: Delivery) -> None:
        if self._orphans and self._adopted(delivery):
            return
        if not delivery.payload:
            self._drop(Dropped.EMPTY)
            self._settle(delivery)
            return
        # What the broker kept is no sign of life, but it may be an event.
        sign = None if delivery.retain else TELEMETRY
        origin = Origin(now_us(), device_id, delivery.retain)
        self._pipeline.accept(
            Message(Door.MQTT, delivery.payload, origin, self._done, sign, delivery)
        )

    def _take_sign(self, kind: TopicKind, device_id: str, delivery: Delivery) -> None:
        sign = HEARTBEAT if kind is TopicKind.HEARTBEAT else read_status(delivery.payload)
        if sign is None or delivery.retain:
            self._settle(delivery)
            return
        origin = Origin(now_us(), device_id)
        self._pipeline.accept(Message(Door.MQTT, b"", origin, self._done, sign, delivery, items=[]))

    def _parse(self, topic: str) -> tuple[TopicKind, str] | None:
        parsed = topics.parse(topic)
        if parsed is not None:
            if len(self._parsed) >= TOPICS_MAX:
                self._parsed.clear()
            self._parsed[topic] = parsed
        return parsed

    def _take_other(self, delivery: Delivery) -> None:
        """The canary, a report of the broker, or the topic of a device that cannot exist."""
        self._messages[OTHER, delivery.qos] += 1
        if delivery.topic == self._hearing.topic:
            self._hearing.canary_came()
        elif delivery.topic == topics.DROPPED:
            self._drops.take(delivery.payload)
        elif delivery.topic.endswith(f"/{TopicKind.TELEMETRY}"):
            self._drop(Dropped.BAD_TOPIC)
        self._settle(delivery)

    def _drop(self, reason: Dropped) -> None:
        self._pipeline.counts.enter(1)
        self._pipeline.counts.leave(1, reason)

    def _begin_generation(self, generation: int) -> None:
        self._generation = generation
        self._orphans.clear()
        for message in self._pipeline.unsettled():
            if message.payload and isinstance(message.ticket, Delivery) and message.ticket.qos:
                self._orphans[_content(message.ticket)].append(message)

    def _adopted(self, delivery: Delivery) -> bool:
        """Whether its first copy waits here: that one is acknowledged on the present connection.

        Telemetry only: of two equal statuses the order among the others matters.
        """
        if not delivery.qos:
            return False
        waiting = self._orphans.get(_content(delivery))
        if not waiting:
            return False
        waiting.popleft().ticket = delivery
        self._drop(Dropped.SUPERSEDED)
        return True

    def _done(self, message: Message) -> None:
        delivery, device_id = message.ticket, message.origin.device_id
        assert isinstance(delivery, Delivery)  # noqa: S101  # Both set by _take_telemetry and _take_sign.
        assert device_id is not None  # noqa: S101
        if self._orphans:
            self._forget(message, delivery)
        self._settle(delivery)
        if message.verdicts:
            wanted = self._pipeline.wants_receipts(device_id)
            self._receipts.add(delivery, device_id, message.verdicts, wanted=wanted)

    def _forget(self, message: Message, delivery: Delivery) -> None:
        """It is settled: a copy that comes now is a message of its own, and a duplicate."""
        key = _content(delivery)
        waiting = self._orphans.get(key)
        if waiting and message in waiting:
            waiting.remove(message)
        if not waiting:
            self._orphans.pop(key, None)


def _content(delivery: Delivery) -> Content:
    return delivery.topic, delivery.payload, delivery.retain
