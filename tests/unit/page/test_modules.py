"""The modules of the page that need no browser, in the Node.js that comes with Playwright."""

import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

FOLDER = Path(__file__).parent
NODE_S_MAX = 120


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.test.mjs")), ids=lambda path: path.name)
def test_the_assertions_of_a_script_hold(script: Path) -> None:
    node = str(compute_driver_executable()[0])
    done = subprocess.run(
        [node, "--no-warnings", "--test", str(script)],
        capture_output=True, text=True, timeout=NODE_S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
