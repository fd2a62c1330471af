"""`voltwire` and `python -m cli`: handles signals before the imports, which take a second."""

import signal
import sys


def main() -> None:
    """A signal before a role runs ends the program with exit code 0: nothing is buffered yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
