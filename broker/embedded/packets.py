"""The packets of a client, parsed strictly: a malformed one raises ConnectionError [MQTT-4.8.0-1]."""

from dataclasses import dataclass
from typing import NoReturn

from broker import wire
from broker.embedded.limits import SLASHES_MAX, SMALL_PACKET_BYTES_MAX
from broker.wire import PacketType

CONNECT = PacketType.CONNECT << 4
CONNACK = 0x20
UNACCEPTABLE_VERSION, IDENTIFIER_REJECTED, SERVER_UNAVAILABLE, NOT_AUTHORIZED = 1, 2, 3, 5
MQTT_31, MQTT_311 = 3, 4
NAMES = {"MQIsdp", "MQTT"}
VERSIONS = {("MQIsdp", MQTT_31), ("MQTT", MQTT_311)}
QOS_MAX = 2

# The lower four bits of the first byte are fixed for each type but PUBLISH [MQTT-2.2.2-2].
FLAGS = dict.fromkeys((PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE), 2)
EMPTY = {PacketType.PINGREQ, PacketType.DISCONNECT}
# After CONNECT. PUBREC and PUBCOMP are not among them: messages go out with QoS 1 at most.
SENT_BY_CLIENTS = {PacketType.PUBLISH, PacketType.PUBACK, *FLAGS, *EMPTY}


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """`refusal` is the return code of the CONNACK for a packet that is understood and not accepted."""

    level: int = MQTT_311
    client_id: str = ""
    clean: bool = True
    keepalive_s: int = 0
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    refusal: int = 0


class _Fields:
    """The fields of a packet, taken one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def rest(self) -> int:
        return len(self._body) - self._at

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size))

    def data(self) -> bytes:
        return self._take(self.number(2))

    def text(self) -> str:
        return _text(self.data())

    def packet_id(self) -> int:
        return self.number(2) or _malformed("The packet id is 0.")  # [MQTT-2.3.1-1]

    def end(self) -> None:
        if self.rest:
            _malformed("Bytes follow the last field.")

    def _take(self, size: int) -> bytes:
        if self.rest < size:
            _malformed("A field is missing or cut off.")
        self._at += size
        return self._body[self._at - size : self._at]


def parse_connect(first: int, body: bytes) -> Connect:
    """MQTT 3.1.1, and 3.1, which differs in its name and level [MQTT-3.1]."""
    if first != CONNECT:
        _malformed("The first packet is not CONNECT.")  # [MQTT-3.1.0-1]
    fields = _Fields(body)
    name, level = fields.text(), fields.number(1)
    if name not in NAMES:
        _malformed("The protocol is not MQTT.")
    if (name, level) not in VERSIONS:
        return Connect(refusal=UNACCEPTABLE_VERSION)  # [MQTT-3.1.2-2]
    flags, keepalive_s = fields.number(1), fields.number(2)
    has_user, has_password, has_will = flags & 0x80, flags & 0x40, flags & 4
    if flags & 1 or (has_password and not has_user) or (flags & 0x38 and not has_will):
        _malformed("The flags of CONNECT contradict each other.")
    client_id = fields.text()
    connect = Connect(
        level=level,
        client_id=client_id,
        clean=bool(flags & 2),
        keepalive_s=keepalive_s,
        will=_parse_will(fields, flags) if has_will else None,
        username=fields.text() if has_user else None,
        password=fields.data() if has_password else None,
        refusal=0 if client_id or (flags & 2 and level == MQTT_311) else IDENTIFIER_REJECTED,
    )
    fields.end()
    return connect


def _parse_will(fields: _Fields, flags: int) -> Will:
    topic, payload, qos = fields.text(), fields.data(), flags >> 3 & 3
    _require_topic(topic)
    if qos > QOS_MAX:
        _malformed("The will has QoS 3.")
    return Will(topic, payload, qos, bool(flags & 0x20))


def connack(*, code: int = 0, session_present: bool = False) -> bytes:
    return wire.packet(CONNACK, bytes((session_present, code)))


def check(first: int, body: bytes) -> PacketType:
    """The type of a packet after CONNECT, whose flags and length are right for it."""
    if first >> 4 not in SENT_BY_CLIENTS:
        _malformed(f"A client must not send packet type {first >> 4} now.")
    kind = PacketType(first >> 4)
    if kind is PacketType.PUBLISH:
        return kind
    if first & 0x0F != FLAGS.get(kind, 0):
        _malformed(f"The flags of {kind.name} are wrong.")
    if len(body) > SMALL_PACKET_BYTES_MAX or (kind in EMPTY and body):
        _malformed(f"{kind.name} is too long.")
    return kind


def parse_publish(first: int, body: bytes) -> tuple[str, bytes, int, bool, int]:
    """Topic, payload, QoS, retain flag and packet id (QoS 0: 0)."""
    topic, payload, qos, retain, mid = wire.parse_publish(first, body)
    if qos > QOS_MAX or bool(mid) != bool(qos) or (first & 8 and not qos):  # [MQTT-3.3.1-2]
        _malformed("The flags of PUBLISH or its packet id are wrong.")
    if "\ufffd" in topic:  # The character itself, or in place of bytes that are not UTF-8.
        _text(body[2 : 2 + int.from_bytes(body[:2])])
    _require_topic(topic)
    return topic, payload, qos, retain, mid


def parse_packet_id(body: bytes) -> int:
    """The packet id of PUBACK, PUBREC, PUBREL or PUBCOMP, which carry nothing else."""
    fields = _Fields(body)
    mid = fields.packet_id()
    fields.end()
    return mid


def parse_subscribe(body: bytes) -> tuple[int, list[tuple[str, int]]]:
    """The packet id, and the filters with the QoS that is asked for [MQTT-3.8.3]."""
    fields = _Fields(body)
    mid = fields.packet_id()
    wanted: list[tuple[str, int]] = []
    while fields.rest or not wanted:
        topic_filter, qos = _filter(fields), fields.number(1)
        if qos > QOS_MAX:
            _malformed("SUBSCRIBE asks for a QoS above 2.")
        wanted.append((topic_filter, qos))
    return mid, wanted


def parse_unsubscribe(body: bytes) -> tuple[int, list[str]]:
    fields = _Fields(body)
    mid = fields.packet_id()
    filters: list[str] = []
    while fields.rest or not filters:
        filters.append(_filter(fields))
    return mid, filters


def _filter(fields: _Fields) -> str:
    """`#` is the last level, and a wildcard has its level to itself [MQTT-4.7.1-2], [MQTT-4.7.1-3]."""
    topic_filter = fields.text()
    levels = topic_filter.split("/")
    alone = all(level in {"+", "#"} or not set(level) & {"+", "#"} for level in levels)
    if not topic_filter or not alone or "#" in levels[:-1] or len(levels) - 1 > SLASHES_MAX:
        _malformed("A filter is malformed.")
    return topic_filter


def _require_topic(topic: str) -> None:
    """At least one character [MQTT-4.7.3-1], no wildcard [MQTT-3.3.2-2], no NUL [MQTT-1.5.3-2]."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        _malformed("A topic is empty, or contains a wildcard or NUL.")
    if topic.count("/") > SLASHES_MAX:
        _malformed("A topic has too many levels.")


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        _malformed("A text is not UTF-8.")
    if "\0" in text:
        _malformed("A text contains NUL.")
    return text


def _malformed(sentence: str) -> NoReturn:
    raise ConnectionError(sentence)
