"""SQL in files: `-- name --`, a sentence, the query. Each package has its own files."""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import SimpleNamespace

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_CONSTANT = re.compile(r"(?<![:\w]):([a-z]\w*)")


def load_queries(
    package: str, name: str = "queries.sql", constants: Mapping[str, float] | None = None
) -> SimpleNamespace:
    """Return the queries of a file as attributes: `load_queries("ingestor.store").insert_keys`.

    `:name` in the text stands for the constant of that name, as in psql. Raises ValueError if two
    queries have the same name, KeyError for a constant that is not given.
    """
    text = (files(package) / name).read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    names = parts[::2]
    if repeated := {each for each in names if names.count(each) > 1}:
        raise ValueError(f"{package}/{name} holds more than one query {', '.join(repeated)}.")
    known = constants or {}
    bodies = (_CONSTANT.sub(lambda found: str(known[found[1]]), body) for body in parts[1::2])
    return SimpleNamespace(**dict(zip(names, map(str.strip, bodies), strict=True)))
