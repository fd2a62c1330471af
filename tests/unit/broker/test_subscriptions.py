"""The tree of filters of the embedded broker."""

from time import process_time

import pytest

from broker.embedded import subscriptions
from broker.embedded.subscriptions import Subscriptions


def test_a_client_counts_once_with_the_highest_qos_of_its_filters() -> None:
    tree = Subscriptions()
    for topic_filter, qos in (("a/#", 0), ("a/+", 1), ("#", 0)):
        assert tree.add("x", topic_filter, qos)
    assert tree.add("y", "a", 1)
    assert tree.recipients("a/b") == {"x": 1}
    assert tree.recipients("a") == {"x": 0, "y": 1}
    assert tree.recipients("b") == {"x": 0}


def test_a_removed_filter_leaves_nothing_behind() -> None:
    tree, empty = Subscriptions(), vars(Subscriptions())
    for client_id in ("x", "y"):
        for topic_filter in ("a/b/c", "a/b", "a/#", "+/b"):
            tree.add(client_id, topic_filter, 1)
    tree.remove("x", "a/b")
    assert tree.recipients("a/b") == {"x": 1, "y": 1}
    tree.remove("x", "unknown")
    tree.remove_all("x")
    assert tree.recipients("a/b/c") == {"y": 1}
    tree.remove_all("y")
    assert tree.recipients("a/b/c") == {}
    assert vars(tree)["_root"].children == empty["_root"].children
    assert vars(tree)["_filters"] == {}


def test_all_filters_together_have_a_limit_but_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "FILTERS_BYTES_MAX", 3 * 501)
    tree = Subscriptions()
    assert [tree.add(client, "a", 1) for client in "xyzzw"] == [True, True, True, True, False]
    assert tree.add("ours", "a/b/c", 1, ours=True)
    tree.remove("ours", "a/b/c")
    assert not tree.add("w", "a", 1)
    tree.remove_all("x")
    assert tree.add("w", "a", 1)
    assert not tree.add("v", "a/" * 200, 1)


def test_a_hundred_thousand_filters_do_not_slow_down_a_message() -> None:
    tree = Subscriptions()
    for client in range(2000):
        for number in range(50):
            tree.add(str(client), f"f{number}/+/{client}", 0)
    started = process_time()
    for _ in range(1000):
        assert tree.recipients("devices/a/telemetry") == {}
    assert process_time() - started < 1
