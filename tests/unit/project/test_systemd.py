"""The units for systemd, checked by systemd-analyze without starting anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.brokers.mosquitto import placed

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
INSTALLED = "/opt/voltwire"
README = (FOLDER / "README.md").read_text()


def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed.")
    for unit in UNITS:
        name = unit.name.replace("@", "@ingest")
        (tmp_path / name).write_text(unit.read_text().replace(INSTALLED, str(ROOT)))
    result = subprocess.run(
        [program, "verify", "--man=no", *sorted(tmp_path.glob("*.service"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in result.stderr.splitlines() if str(tmp_path) in line]
    assert (result.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_no_unit_is_root_or_can_become_it(unit: Path) -> None:
    text = unit.read_text()
    (user,) = re.findall(r"^User=(.+)$", text, re.MULTILINE)
    assert user in {"voltwire", "mosquitto"}
    for line in ("NoNewPrivileges=true", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in text


def test_the_readme_places_mosquitto_conf_as_the_units_expect(tmp_path: Path) -> None:
    (command,) = re.findall(r"^(sed .+\\\n.+) > (?:.+)$", README, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    data, files = Path("/var/lib/voltwire-mosquitto"), Path("/etc/mosquitto/voltwire")
    assert done.stdout == placed((ROOT / "mosquitto.conf").read_text(), data, files)
    unit = (FOLDER / "voltwire-mosquitto.service").read_text()
    assert f"StateDirectory={data.name}" in unit
    assert f"/etc/voltwire/mosquitto.conf {files}" in unit


def test_the_readme_names_every_unit() -> None:
    assert all(f"`{unit.stem}" in README for unit in UNITS)
