import pytest

from broker.embedded import session_queue
from broker.embedded.session_queue import MESSAGE_BYTES, QueuedMessage, SessionQueue, SharedBudget


def message(number: int) -> QueuedMessage:
    return QueuedMessage("a", str(number).encode(), retain=False)


def test_messages_leave_in_order_and_only_up_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_queue, "IN_FLIGHT_MAX", 2)
    queue = SessionQueue()
    for number in range(4):
        assert queue.add(message(number))
    assert list(queue.due()) == [(1, message(0)), (2, message(1))]
    assert list(queue.due()) == []
    queue.acknowledge(1)
    assert list(queue.due()) == [(3, message(2))]
    assert queue.unacknowledged() == [(2, message(1)), (3, message(2))]


def test_packet_ids_start_again_and_leave_out_those_in_flight() -> None:
    queue = SessionQueue()
    queue.add(message(0))
    assert [mid for mid, _ in queue.due()] == [1]
    for number in range(session_queue.PACKET_ID_MAX):
        queue.add(message(number))
        ((mid, _),) = queue.due()
        queue.acknowledge(mid)
    assert mid == 2  # 65,535, then not 1.


def test_a_full_queue_refuses_the_newest_until_it_was_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_queue, "MESSAGES_MAX", 2)
    queue = SessionQueue()
    assert [queue.add(message(number)) for number in range(4)] == [True, True, False, False]
    assert (len(queue), queue.refused) == (2, 2)
    for mid, _ in queue.due():
        queue.acknowledge(mid)
    assert (len(queue), queue.refused) == (0, 0)
    assert queue.add(message(5))


def test_bytes_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_queue, "BYTES_MAX", 5)
    queue = SessionQueue()
    assert queue.add(QueuedMessage("a", b"123", retain=False))
    assert not queue.add(QueuedMessage("a", b"1", retain=False))
    ((mid, _),) = queue.due()
    queue.acknowledge(mid)
    queue.acknowledge(mid)
    assert queue.add(QueuedMessage("a", b"1234", retain=False))


def test_queues_share_a_budget_until_acknowledged_or_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_queue, "OTHERS_BYTES_MAX", 2 * (MESSAGE_BYTES + 2))
    budget = SharedBudget()
    first, second, ours = SessionQueue(budget), SessionQueue(budget), SessionQueue()
    assert first.add(message(1))
    assert second.add(message(2))
    assert not first.add(message(3))
    assert (len(first), first.refused) == (1, 1)
    assert ours.add(message(3)), "our own sessions have room of their own"
    ((mid, _),) = first.due()
    first.acknowledge(mid)
    first.acknowledge(mid)
    assert first.add(message(4))
    assert not first.add(message(5))
    second.clear()
    second.clear()
    assert (len(second), second.refused) == (0, 0)
    assert first.add(message(6))
    assert not second.add(message(7))
