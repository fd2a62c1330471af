"""Conditions on the tags of events, as a tsquery.

One index answers them all: it holds the tags as a text search vector whose words are whole tags. A tsquery
on it can require all of some tags, any of some, and a prefix of one.
"""

from collections.abc import Iterable


def tags_query(
    all_of: Iterable[str], any_of: Iterable[str] = (), prefix: str | None = None
) -> str | None:
    """The tsquery that requires all three conditions; None if none is given."""
    conditions = [_word(tag) for tag in sorted(set(all_of))]
    if one_of := [_word(tag) for tag in sorted(set(any_of))]:
        conditions.append(f"({' | '.join(one_of)})")
    if prefix is not None:
        conditions.append(f"{_word(prefix)}:*")
    return " & ".join(conditions) or None


def _word(tag: str) -> str:
    """A whole tag in the quotes of a tsquery."""
    return "'" + tag.replace("\\", "\\\\").replace("'", "''") + "'"
