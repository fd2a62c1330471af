import pytest

from broker import topics
from broker.topics import TopicKind


@pytest.mark.parametrize("kind", TopicKind)
@pytest.mark.parametrize("device_id", ["a", "0", "A.b_c:d-e", "x" * 128])
def test_a_topic_of_a_device_is_read_as_it_was_built(device_id: str, kind: TopicKind) -> None:
    assert topics.parse(topics.device(device_id, kind)) == (kind, device_id)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "devices",
        "devices/a",
        "devices/a/",
        "devices//telemetry",
        "devices/a/telemetry/",
        "devices/a/telemetry/x",
        "/devices/a/telemetry",
        "Devices/a/telemetry",
        "devices/a/Telemetry",
        "devices/a/telemetry\n",
        "devices/a\n/telemetry",
        "devices/a/receipts",
        "devices/a/b/telemetry",
        "devices/.a/telemetry",
        "devices/-a/telemetry",
        "devices/a b/telemetry",
        "devices/ä/telemetry",
        "devices/\N{ARABIC-INDIC DIGIT ONE}/telemetry",
        "devices/\ufeffa/telemetry",
        "devices/" + "x" * 129 + "/telemetry",
        "alerts/a/1",
        "presence/a",
        "voltwire/voltwire/canary",
        "$SYS/broker/version",
    ],
)
def test_any_other_topic_is_not_of_a_device(topic: str) -> None:
    assert topics.parse(topic) is None


def test_the_topics_that_we_write() -> None:
    assert topics.receipts("a") == "devices/a/receipts"
    assert topics.alert("a", "7") == "alerts/a/7"
    assert topics.presence("a") == "presence/a"
    assert topics.canary("berlin") == "voltwire/berlin/canary"
    assert topics.canary("berlin", 3) == "voltwire/berlin/canary/3"


def test_each_kind_has_one_filter() -> None:
    assert topics.DEVICE_FILTERS == (
        "devices/+/telemetry",
        "devices/+/status",
        "devices/+/heartbeat",
    )


@pytest.mark.parametrize(
    "topic",
    [
        "devices/a/receipts",
        "devices/a/receipts/x/y",
        "devices/a/receipts" + 61 * "/",
        "devices/a/receipts/" + "x" * 1005,
    ],
)
def test_receipts_may_go_where_the_device_reads_its_own(topic: str) -> None:
    assert topics.takes_receipts(topic, "a")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "devices/b/receipts",
        "devices/a/receiptsx",
        "devices/a/telemetry",
        "devices/a/receipts/+",
        "devices/a/receipts/#",
        "devices/a/receipts/\0",
        "devices/a/receipts/" + "x" * 1006,
        "devices/a/receipts" + 62 * "/",
        "alerts/a/1",
    ],
)
def test_receipts_go_nowhere_else(topic: str) -> None:
    assert not topics.takes_receipts(topic, "a")
