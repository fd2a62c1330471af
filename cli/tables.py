"""The table at the end of a command: what was counted, how often, and what that means."""

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
