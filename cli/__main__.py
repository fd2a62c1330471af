"""`python -m cli` is `voltwire`."""

from cli.main import main

main()
