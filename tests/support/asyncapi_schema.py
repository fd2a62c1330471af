"""The JSON schema of AsyncAPI 3.0, from the package in which its makers publish it."""

import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

import pytest

PACKAGE = "https://registry.npmjs.org/@asyncapi/specs/-/specs-6.11.1.tgz"
SHA256 = "01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928"
SCHEMA = "package/schemas/3.0.0-without-$id.json"
DOWNLOAD_S_MAX = 20


def asyncapi_schema(folder: Path) -> Path:
    """Downloaded into the folder; without the internet the test is skipped."""
    try:
        with urllib.request.urlopen(PACKAGE, timeout=DOWNLOAD_S_MAX) as answer:
            package = answer.read()
    except OSError as error:
        pytest.skip(f"The schema of AsyncAPI cannot be downloaded: {error}")
    assert hashlib.sha256(package).hexdigest() == SHA256
    schema = folder / "asyncapi-schema.json"
    with tarfile.open(fileobj=io.BytesIO(package)) as files:
        found = files.extractfile(SCHEMA)
        assert found is not None
        schema.write_bytes(found.read())
    return schema
