"""The JSON schema of AsyncAPI 3.0, from the npm package in which its makers publish it."""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

PACKAGE = "@asyncapi/specs@6.11.1"
SHA256 = "01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928"
SCHEMA = "package/schemas/3.0.0-without-$id.json"
DOWNLOAD_S_MAX = 60


def asyncapi_schema(folder: Path) -> Path:
    """Downloaded into the folder; without npm or the internet the test is skipped."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which downloads the schema of AsyncAPI.")
    command = [npm, "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=20000", PACKAGE]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_S_MAX, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"The schema of AsyncAPI cannot be downloaded: {done.stderr}")
    package = folder / done.stdout.strip()
    assert hashlib.sha256(package.read_bytes()).hexdigest() == SHA256
    schema = folder / "asyncapi-schema.json"
    with tarfile.open(package) as files:
        found = files.extractfile(SCHEMA)
        assert found is not None
        schema.write_bytes(found.read())
    return schema
