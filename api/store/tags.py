"""Questions about the tags of events.

One index answers every kind: it holds the tags as a text search vector whose words are whole tags, which a
tsquery asks for all of some tags, for any of some, and for the beginning of one.
"""

from collections.abc import Iterable

from runtime.errors import InvalidRequest

TAGS_MAX = 32  # As many as an event carries.
TAG_CHARACTERS_MAX = 128


def wanted(
    all_of: Iterable[str], any_of: Iterable[str] = (), prefix: str | None = None
) -> str | None:
    """The tsquery that asks for all three; None if none is given."""
    conditions = [_word(tag) for tag in sorted(set(all_of))]
    if one_of := [_word(tag) for tag in sorted(set(any_of))]:
        conditions.append(f"({' | '.join(one_of)})")
    if prefix is not None:
        conditions.append(f"{_word(prefix)}:*")
    return " & ".join(conditions) or None


def _word(tag: str) -> str:
    """A tag as it is, in the quotes of a tsquery."""
    return "'" + tag.replace("\\", "\\\\").replace("'", "''") + "'"


def tag_texts(name: str, texts: Iterable[str] | None) -> list[str]:
    """The values of a parameter that names tags. Raises InvalidRequest."""
    return [tag_text(name, text) for text in texts or ()]


def tag_text(name: str, text: str) -> str:
    if not 1 <= len(text) <= TAG_CHARACTERS_MAX or "\0" in text:
        raise InvalidRequest(f"{name}: 1 to {TAG_CHARACTERS_MAX} characters without NUL.")
    return text
