"""The topics of Home Assistant's discovery."""

import re

from broker import topics

# Home Assistant's rule, behind its discovery prefix.
ALLOWED = re.compile(r"homeassistant/\w+/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")


def test_every_instance_and_device_has_a_topic_of_its_own_that_home_assistant_allows() -> None:
    names = ["a", "A", "a.b", "a_b", "a-b", "a:b", "a_2eb", "x" * 128]
    found = {topics.discovery(each, name) for each in ("voltwire", "two.2") for name in names}
    assert len(found) == 2 * len(names)
    assert all(ALLOWED.fullmatch(topic) for topic in found)
