"""The filters of all sessions, as a tree of topic levels.

To find the recipients of a message takes time by the levels of its topic, not by the number of filters.
"""

from collections.abc import Iterator

from broker.embedded.limits import FILTER_LEVEL_BYTES, FILTERS_BYTES_MAX, FILTERS_MAX


class _Node:
    __slots__ = ("children", "granted")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.granted: dict[str, int] = {}  # By client id, for the filter that ends here.


class Subscriptions:
    def __init__(self) -> None:
        self._root = _Node()
        self._filters: dict[str, dict[str, int]] = {}  # Of each client, with what they cost.
        self._bytes = 0

    def add(self, client_id: str, topic_filter: str, qos: int, *, ours: bool = False) -> bool:
        """False if this client, or all, have too many filters. An equal one is replaced [MQTT-3.8.4-3].

        `ours`: what our own sessions subscribe to does not count.
        """
        own = self._filters.get(client_id, {})
        if topic_filter not in own:
            size = 0 if ours else _size(topic_filter)
            if len(own) >= FILTERS_MAX or (size and self._bytes + size > FILTERS_BYTES_MAX):
                return False
            self._filters.setdefault(client_id, own)[topic_filter] = size
            self._bytes += size
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.granted[client_id] = qos
        return True

    def remove(self, client_id: str, topic_filter: str) -> None:
        own = self._filters.get(client_id, {})
        if topic_filter in own:
            self._bytes -= own.pop(topic_filter)
            if not own:
                del self._filters[client_id]
            self._remove_path(client_id, topic_filter.split("/"))

    def remove_all(self, client_id: str) -> None:
        for topic_filter in tuple(self._filters.get(client_id, ())):
            self.remove(client_id, topic_filter)

    def recipients(self, topic: str) -> dict[str, int]:
        """The matching clients, each with the highest QoS among its filters [MQTT-3.3.5-1]."""
        found: dict[str, int] = {}
        for node in self._matching(topic):
            for client_id, qos in node.granted.items():
                if qos >= found.get(client_id, 0):
                    found[client_id] = qos
        return found

    def _matching(self, topic: str) -> Iterator[_Node]:
        """`#` also stands for its parent level: `a/#` matches `a` [MQTT-4.7.1-2]."""
        nodes = [self._root]
        for level in topic.split("/"):
            yield from _children(nodes, "#")
            nodes = [*_children(nodes, level), *_children(nodes, "+")]
        yield from nodes
        yield from _children(nodes, "#")

    def _remove_path(self, client_id: str, levels: list[str]) -> None:
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].granted.pop(client_id, None)
        for level, node, parent in zip(levels[::-1], path[:0:-1], path[-2::-1], strict=True):
            if node.granted or node.children:
                return
            del parent.children[level]


def _size(topic_filter: str) -> int:
    return len(topic_filter.encode()) + FILTER_LEVEL_BYTES * (topic_filter.count("/") + 1)


def _children(nodes: list[_Node], level: str) -> list[_Node]:
    return [child for node in nodes if (child := node.children.get(level)) is not None]
