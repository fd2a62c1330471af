"""What commands show: rows of name, count and meaning, as a table or for JSON; sizes."""

from collections.abc import Iterable

from rich.table import Table

KIB = 1024


Row = tuple[str, object, str]  # Name, count, meaning.


def counts_of(rows: Iterable[Row]) -> dict[str, object]:
    """The counts for JSON, under the names that the table shows."""
    return {name.replace(" ", "_"): count for name, count, _ in rows}


def counts_table(rows: Iterable[Row]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, count, meaning in rows:
        table.add_row(name, str(count), meaning)
    return table


def size_text(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < KIB:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= KIB
    return f"{size_bytes:.1f} GiB"
