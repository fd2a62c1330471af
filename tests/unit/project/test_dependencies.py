"""Versions below which a known vulnerability concerns us; docs/security.md names each."""

import re
import subprocess
from pathlib import Path

import pytest
from packaging.version import Version

from tests.support.processes.programs import require_program

ROOT = Path(__file__).parents[3]
LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
FLOOR = re.compile(r"^\| `([a-z0-9-]+)` \| ([0-9.]+) \|", re.MULTILINE)
# Debian puts fixes into its own revisions of a version.
MOSQUITTO, MOSQUITTO_OF_DEBIAN = Version("2.0.21"), re.compile(r"2\.0\.11-1.*deb12u(\d+)")


def floors() -> dict[str, Version]:
    text = (ROOT / "docs/security.md").read_text("utf-8")
    return {name: Version(version) for name, version in FLOOR.findall(text)}


def test_no_locked_package_is_below_its_floor() -> None:
    locked = dict(LOCKED.findall((ROOT / "requirements.lock").read_text()))
    assert {"amqtt", "litestar", "h11"} <= floors().keys()
    assert {name for name, floor in floors().items() if Version(locked[name]) < floor} == set()


def test_every_locked_package_has_hashes_and_no_other_source_than_the_index() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        packages = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text).strip())
        assert packages
        assert [each for each in packages if "--hash=sha256:" not in each] == []
        assert " @ " not in text


def test_the_installed_mosquitto_has_the_fixes_of_2024() -> None:
    program = require_program("mosquitto")
    asked = ["dpkg-query", "--show", "--showformat=${Version}", "mosquitto"]
    try:
        version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
        version = said.split()[2]
    if revision := MOSQUITTO_OF_DEBIAN.match(version):
        assert int(revision[1]) >= 2, version
    else:
        assert Version(re.split(r"[-+~]", version)[0]) >= MOSQUITTO, version


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", "mosquitto.conf"])
def test_no_reload_no_websockets_no_debug(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"--reload|protocol websockets|\bdebug\b", text, re.IGNORECASE)
