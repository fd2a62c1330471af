"""The table that a command ends with: name, count and meaning in each row."""

from collections.abc import Iterable

from rich.table import Table


def counts_table(rows: Iterable[tuple[str, object, str]]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, count, meaning in rows:
        table.add_row(name, str(count), meaning)
    return table
