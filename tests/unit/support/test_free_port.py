"""A port that one test was given is given to no other, in whichever process it runs."""

import subprocess
import sys

from tests.support.processes import services

GIVE_ALL = """
from tests.support.processes import services
services.PORT_MIN, services.PORT_MAX, services.PORTS_KEPT_MAX = {first}, {first} + 40, 40
print(*(services.free_port() for _ in range(10)))
"""


def test_no_port_is_given_away_twice() -> None:
    given = [services.free_port() for _ in range(services.PORTS_KEPT_MAX)]
    assert len(set(given)) == len(given)


def test_two_processes_are_given_different_ports() -> None:
    first = services.free_port()
    program = GIVE_ALL.format(first=first)
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=services.ROOT,
    )
    ports = {int(port) for port in other.stdout.split()}
    assert len(ports) == 10
    assert first not in ports
