"""SQL in files: `-- name --`, a sentence, the query. Each package keeps its own queries.sql."""

import re
from importlib.resources import files
from types import SimpleNamespace

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def load_queries(package: str, name: str = "queries.sql") -> SimpleNamespace:
    """The queries of a package as attributes: `load_queries("ingestor").take_lanes`."""
    _, *parts = _HEADING.split((files(package) / name).read_text(encoding="utf-8"))
    return SimpleNamespace(**dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True)))
