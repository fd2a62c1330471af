"""`make setup` in a checkout: what it refuses, what it makes again, what it says without a network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from venv import EnvBuilder

import pip
import pytest

ROOT = Path(__file__).parents[3]
AGAIN = "made again"
OURS = f"PYTHON={sys.executable}"  # Without it make starts every Python of the PATH.

pytestmark = pytest.mark.slow  # Each runs make, which looks for a Python.


def make(checkout: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    result = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=checkout, env=kept | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def set_up(checkout: Path) -> Path:
    """A checkout as `make setup` leaves it, but for the packages; its pip is the one of our environment."""
    venv = checkout / ".venv"
    EnvBuilder(symlinks=True).create(venv)
    (site_packages,) = venv.glob("lib/*/site-packages")
    (site_packages / "pip").symlink_to(Path(pip.__file__).parent)
    (venv / "bin/voltwire").write_text(f"#!{venv}/bin/python\n")
    (venv / ".runtime").touch()
    return checkout


def test_an_unsupported_python_is_refused_and_leaves_nothing(checkout: Path) -> None:
    old = checkout / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, said = make(checkout, "setup", "PYTHON=./python3.10")
    assert code != 0
    assert "PYTHON=./python3.10 is none of them" in said
    assert not (checkout / ".venv").exists()


def test_an_environment_that_works_is_left_alone(set_up: Path) -> None:
    assert AGAIN not in make(set_up, "-n", "setup", OURS)[1]


def test_an_environment_of_a_moved_checkout_is_made_again(set_up: Path) -> None:
    moved = set_up.rename(set_up.with_name("elsewhere"))
    assert AGAIN in make(moved, "-n", "setup")[1]


def test_an_environment_whose_pip_is_gone_is_made_again(set_up: Path) -> None:
    for package in (set_up / ".venv").glob("lib/*/site-packages/pip"):
        package.unlink()
    assert AGAIN in make(set_up, "-n", "setup", OURS)[1]


def test_an_environment_whose_python_is_gone_is_made_again(set_up: Path) -> None:
    for name in ("python", "python3"):
        (set_up / ".venv/bin" / name).unlink()
        (set_up / ".venv/bin" / name).symlink_to("/nowhere/python3")
    assert AGAIN in make(set_up, "-n", "setup", OURS)[1]


def test_without_a_network_it_says_that_the_downloads_failed(set_up: Path) -> None:
    (set_up / ".venv/.runtime").unlink()
    nowhere = "http://127.0.0.1:9/"
    code, said = make(
        set_up, "setup", OURS, PIP_INDEX_URL=nowhere, UV_INDEX_URL=nowhere, PIP_NO_CACHE_DIR="1"
    )
    assert code != 0
    assert "Installing uv" in said
    assert "The packages could not be downloaded" in said
