import pytest

from broker.embedded import session_queue
from broker.embedded.session_queue import QueuedMessage, SessionQueue


def message(number: int) -> QueuedMessage:
    return QueuedMessage("a", str(number).encode(), retain=False)


def test_messages_leave_in_order_and_only_up_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_queue, "IN_FLIGHT_MAX", 2)
    box = SessionQueue()
    for number in range(4):
        assert box.add(message(number))
    assert list(box.due()) == [(1, message(0)), (2, message(1))]
    assert list(box.due()) == []
    box.acknowledge(1)
    assert list(box.due()) == [(3, message(2))]
    assert box.unacknowledged() == [(2, message(1)), (3, message(2))]


def test_packet_ids_start_again_and_leave_out_those_in_flight() -> None:
    box = SessionQueue()
    box.add(message(0))
    assert [mid for mid, _ in box.due()] == [1]
    for number in range(session_queue.PACKET_ID_MAX):
        box.add(message(number))
        ((mid, _),) = box.due()
        box.acknowledge(mid)
    assert mid == 2  # 65,535, then not 1.


def test_a_full_outbox_refuses_the_newest_until_it_was_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_queue, "MESSAGES_MAX", 2)
    box = SessionQueue()
    assert [box.add(message(number)) for number in range(4)] == [True, True, False, False]
    assert (len(box), box.refused) == (2, 2)
    for mid, _ in box.due():
        box.acknowledge(mid)
    assert (len(box), box.refused) == (0, 0)
    assert box.add(message(5))


def test_bytes_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_queue, "BYTES_MAX", 5)
    box = SessionQueue()
    assert box.add(QueuedMessage("a", b"123", retain=False))
    assert not box.add(QueuedMessage("a", b"1", retain=False))
    ((mid, _),) = box.due()
    box.acknowledge(mid)
    box.acknowledge(mid)
    assert box.add(QueuedMessage("a", b"1234", retain=False))
