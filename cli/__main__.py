"""`voltwire`, and `python -m cli`: what must be there before the imports, which take a second."""

import signal
import sys


def main() -> None:
    """Until a role runs there is nothing to flush: a signal ends the program with exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
