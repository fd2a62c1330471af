"""What commands show: a table with name, count and meaning in each row; sizes."""

from collections.abc import Iterable

from rich.table import Table

KIB = 1024


def counts_table(rows: Iterable[tuple[str, object, str]]) -> Table:
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
