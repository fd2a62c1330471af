"""Silences: which alerts channels do not get, by time of receipt. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from schema.event import Event


@dataclass(frozen=True, slots=True)
class Silence:
    """It concerns what meets all of its conditions; None sets no condition."""

    device_id: str | None
    tag: str | None
    rule_id: str | None
    starts_at: datetime
    ends_at: datetime

    def may_concern(self, device_id: str, rule_id: str) -> bool:
        """Whether it concerns the pair while it is in force, for some tags."""
        return self.device_id in {None, device_id} and self.rule_id in {None, rule_id}


@dataclass(frozen=True, slots=True)
class Mute:
    """How silences concern a (rule, device): every alert, or those of events with one of these tags."""

    everything: bool = False
    tags: frozenset[str] = frozenset()

    def __call__(self, event: Event) -> bool:
        return self.everything or not self.tags.isdisjoint(event.tags)


NOT_MUTED = Mute()


def mute_of(silences: Iterable[Silence], device_tags: Collection[str]) -> Mute:
    """The mute by the silences that may concern a pair, whose device is registered with these tags."""
    found = list(silences)
    if not found:
        return NOT_MUTED
    return Mute(
        any(silence.tag is None or silence.tag in device_tags for silence in found),
        frozenset(silence.tag for silence in found if silence.tag is not None),
    )
