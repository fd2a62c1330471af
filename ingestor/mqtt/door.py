"""The MQTT door: deliveries become messages of the pipeline; settled messages are acknowledged."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable

from broker import topics
from broker.client.delivery import Delivery
from broker.topics import TopicKind
from ingestor.batch import Message
from ingestor.decode.acceptance import Origin
from ingestor.decode.presence import HEARTBEAT, TELEMETRY, read_status
from ingestor.decode.strict import OVERSIZE_KEPT_BYTES
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
from ingestor.mqtt.device_rate import DeviceRate
from ingestor.mqtt.dropped_topics import DroppedTopics
from ingestor.mqtt.receipts import Receipts
from ingestor.pipeline import Pipeline
from runtime.metrics import Dropped
from schema.event import Door, Reason, Rejection
from schema.instants import now_us

OTHER = "other"
BAD_STATUS = "a status is online, offline or asleep, as a word or as the state of a JSON object"
_BLANK = b"\0 \t\r\n"
TOPICS_MAX = 100_000  # The cache of parsed topics takes up to 30 MB.

# Python 3.11 takes 150 ns to look up a member of an enumeration.
_MQTT, _TELEMETRY_TOPIC = Door.MQTT, TopicKind.TELEMETRY

Content = tuple[str, bytes, bool]  # Topic, payload, and whether it was a retained message.


class MqttDoor:
    """Holds at most one window of messages, however often the link is cut in an outage.

    If the broker redelivers a message on a new connection while the first copy still waits for the
    database, the new delivery takes the place of the old one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settle: Callable[[Delivery], None],
        canary: CanaryMonitor,
        drops: DropWatch,
        receipts: Receipts,
        messages: Counter[tuple[str, int]],
        rate: DeviceRate | None = None,
    ) -> None:
        self._pipeline, self._settle, self._canary = pipeline, settle, canary
        self._drops, self._receipts, self._messages = drops, receipts, messages
        self._rate = rate  # None: devices may send as much as they like.
        self._parsed: dict[str, tuple[TopicKind, str]] = {}
        self._dropped_topics = DroppedTopics()
        self._open = True
        self._generation = 0
        # The messages of earlier connections that still wait, in the order of arrival.
        self._unsettled_by_content: defaultdict[Content, deque[Message]] = defaultdict(deque)

    def close(self) -> None:
        """Accept nothing more: later deliveries stay unacknowledged and are redelivered."""
        self._open = False

    def abandon(self) -> None:
        """Another ingestor has the lease: messages that wait here must not change presence any more."""
        for message in self._pipeline.unsettled():
            message.signal = None

    def receive(self, delivery: Delivery) -> None:
        if not self._open:
            return
        self._canary.on_delivery()
        parsed = self._parsed.get(delivery.topic) or self._parse(delivery.topic)
        if parsed is None:
            self._take_other(delivery)
            return
        kind, device_id = parsed
        self._messages[kind, delivery.qos] += 1
        if delivery.generation != self._generation:
            self._begin_generation(delivery.generation)
        if kind is _TELEMETRY_TOPIC:
            self._take_telemetry(device_id, delivery)
        else:
            self._take_signal(kind, device_id, delivery)

    def _take_telemetry(self, device_id: str, delivery: Delivery) -> None:
        if self._unsettled_by_content and self._superseded(delivery):
            return
        if not delivery.payload:
            self._dropped_topics.name(delivery.topic, "its payload is empty")
            self._drop(Dropped.EMPTY)
            self._settle(delivery)
            return
        if self._rate is not None:
            excess = self._rate.excess(device_id, delivery.payload, delivery.generation)
            if excess:
                self._drop(Dropped.RATE_LIMITED, excess)
                self._settle(delivery)
                return
        # A retained message may be an event, but it is no sign of life.
        signal = None if delivery.retain else TELEMETRY
        origin = Origin(now_us(), device_id, delivery.retain)
        self._pipeline.accept(
            Message(_MQTT, delivery.payload, origin, self._done, signal, delivery)
        )

    def _take_signal(self, kind: TopicKind, device_id: str, delivery: Delivery) -> None:
        signal = HEARTBEAT if kind is TopicKind.HEARTBEAT else read_status(delivery.payload)
        if delivery.retain or (signal is None and not delivery.payload.strip(_BLANK)):
            self._settle(delivery)
            return
        origin = Origin(now_us(), device_id)
        message = Message(_MQTT, b"", origin, self._done, signal, delivery)
        message.decoded([] if signal is not None else [_unreadable(delivery, origin)])
        self._pipeline.accept(message)

    def _parse(self, topic: str) -> tuple[TopicKind, str] | None:
        parsed = topics.parse(topic)
        if parsed is not None:
            if len(self._parsed) >= TOPICS_MAX:
                self._parsed.clear()
            self._parsed[topic] = parsed
        return parsed

    def _take_other(self, delivery: Delivery) -> None:
        """The canary, a report of the broker, or a topic whose device id is invalid."""
        self._messages[OTHER, delivery.qos] += 1
        if delivery.topic == self._canary.topic:
            self._canary.on_canary()
            if self._rate is not None and self._canary.is_of_connection(delivery):
                self._rate.caught_up(delivery.generation)
        elif delivery.topic == topics.DROPPED:
            self._drops.take(delivery.payload)
        else:
            self._dropped_topics.name(delivery.topic, "its device id is not valid")
            if delivery.topic.endswith(f"/{TopicKind.TELEMETRY}"):
                self._drop(Dropped.BAD_TOPIC)
        self._settle(delivery)

    def _drop(self, reason: Dropped, events: int = 1) -> None:
        self._pipeline.counts.enter(events)
        self._pipeline.counts.leave(events, reason)

    def _begin_generation(self, generation: int) -> None:
        self._generation = generation
        self._unsettled_by_content.clear()
        for message in self._pipeline.unsettled():
            if message.payload and isinstance(message.ticket, Delivery) and message.ticket.qos:
                self._unsettled_by_content[_content(message.ticket)].append(message)

    def _superseded(self, delivery: Delivery) -> bool:
        """Whether its first copy waits here; that copy is then acknowledged as this delivery.

        For telemetry only: equal statuses differ by their order among the others.
        """
        if not delivery.qos:
            return False
        waiting = self._unsettled_by_content.get(_content(delivery))
        if not waiting:
            return False
        waiting.popleft().ticket = delivery
        self._drop(Dropped.SUPERSEDED)
        return True

    def _done(self, message: Message) -> None:
        delivery, device_id = message.ticket, message.origin.device_id
        assert isinstance(delivery, Delivery)  # noqa: S101  # _take_telemetry and _take_signal set both.
        assert device_id is not None  # noqa: S101
        if self._unsettled_by_content:
            self._remove_unsettled(message, delivery)
        self._settle(delivery)
        if message.verdicts and message.payload:  # A status that cannot be read has no receipt.
            wanted = self._pipeline.wants_receipts(device_id)
            self._receipts.add(delivery, device_id, message.verdicts, wanted=wanted)

    def _remove_unsettled(self, message: Message, delivery: Delivery) -> None:
        """The message is settled: a copy that arrives from now on is stored as a duplicate."""
        key = _content(delivery)
        waiting = self._unsettled_by_content.get(key)
        if waiting and message in waiting:
            waiting.remove(message)
        if not waiting:
            self._unsettled_by_content.pop(key, None)


def _unreadable(delivery: Delivery, origin: Origin) -> Rejection:
    kept = delivery.payload[:OVERSIZE_KEPT_BYTES]
    return Rejection(Reason.BAD_STATUS, BAD_STATUS, kept, origin.received_at, origin.device_id)


def _content(delivery: Delivery) -> Content:
    return delivery.topic, delivery.payload, delivery.retain
