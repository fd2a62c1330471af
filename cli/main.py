"""The `voltwire` command: runs a command, turns errors into exit codes.

0 success · 1 failure · 2 misuse (invalid arguments or settings).
"""

from typing import Annotated

import typer

from cli.commands import Commands
from runtime.errors import ConfigurationError, VoltwireError
from runtime.version import VERSION

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point. A VoltwireError becomes one sentence on standard error."""
    try:
        app(standalone_mode=True)
    except ConfigurationError as error:
        _exit(str(error), 2)
    except VoltwireError as error:
        _exit(str(error), 1)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # typer fixes the signature.
    if wanted:
        typer.echo(f"voltwire {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Telemetry of battery devices over MQTT, stored in PostgreSQL.

    Settings come from the environment and .env; docs/configuration.md explains each.
    """


def _exit(sentence: str, code: int) -> None:
    typer.echo(sentence, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
