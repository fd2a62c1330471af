"""Programs of the system that some tests need."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Return the path of the program; without it the test is skipped, and fails in CI."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which(name, path=path)
    if program is None:
        reason = f"{name} is not installed: as root, make test installs it."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program
