"""What the members of an instance are called and subscribe to."""

from broker import topics
from ingestor.mqtt.member import Member, share_group


def test_one_alone_subscribes_to_everything_and_nothing_is_shared() -> None:
    alone = Member("voltwire")
    assert alone.client_id == "voltwire-ingest"
    assert alone.subscriptions == (*topics.DEVICE_FILTERS, "voltwire/voltwire/canary")
    assert set(alone.possible_subscriptions) == set(alone.subscriptions)


def test_members_share_the_telemetry_and_only_the_first_receives_the_rest() -> None:
    first, second = (Member("berlin", number, 2, "berlin") for number in (1, 2))
    assert first.subscriptions == (
        "$share/berlin/devices/+/telemetry",
        "devices/+/status",
        "devices/+/heartbeat",
        "$share/berlin/voltwire/berlin/canary",
    )
    assert second.subscriptions == (
        "$share/berlin/devices/+/telemetry",
        "$share/berlin/voltwire/berlin/canary/2",
    )
    assert (first.optional_subscriptions, second.optional_subscriptions) == ((topics.DROPPED,), ())


def test_the_first_keeps_its_session_when_others_come_and_gives_up_what_it_had_alone() -> None:
    alone, first = Member("voltwire"), Member("voltwire", 1, 3, "voltwire")
    assert first.client_id == alone.client_id
    assert set(first.possible_subscriptions) - set(first.subscriptions) == {
        "devices/+/telemetry",
        "voltwire/voltwire/canary",
    }


def test_no_two_members_have_anything_in_common_but_the_shared_telemetry() -> None:
    members = [Member("voltwire", number, 12, "voltwire") for number in range(1, 13)]
    assert len({member.client_id for member in members}) == 12
    assert len({member.name for member in members}) == 12
    subscriptions = [each for member in members for each in member.subscriptions]
    assert len(set(subscriptions)) == len(subscriptions) - 11


def test_the_group_is_a_secret_if_there_is_a_password() -> None:
    group = share_group("berlin", "secret")
    assert group.startswith("berlin-")
    assert len(group) == len("berlin-") + 32
    assert group == share_group("berlin", "secret") != share_group("berlin", "another")
    assert share_group("berlin", None) == "berlin"
    assert Member("berlin", 2, 2, group).subscriptions[0] == f"$share/{group}/devices/+/telemetry"
