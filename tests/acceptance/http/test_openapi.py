"""schemathesis sends the API requests that its document allows and forbids, and checks the answers."""

import subprocess
import sys

import pytest

from tests.acceptance.chaos.seeds import LONG, rounds
from tests.acceptance.conftest import base_url
from tests.support import plain_http
from tests.support.services import ROOT, Process

EXAMPLES = rounds(short=2, long=6)  # Per operation and kind.
# The long form also goes through every boundary value of every parameter: 1,700 requests.
PHASES = "examples,coverage,fuzzing,stateful" if LONG else "fuzzing,stateful"
SEED = 1


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_answers_match_the_openapi_document(up: Process) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", f"--config-file={ROOT / 'schemathesis.toml'}", "run",
            f"{base_url(up)}/openapi.json", "--checks=all", "--workers=2",
            f"--max-examples={EXAMPLES}", f"--seed={SEED}", f"--phases={PHASES}",
            "--no-color", "--warnings=off", "--request-timeout=10", "--generation-database=none",
            "--suppress-health-check=too_slow",  # The machine may be busy.
        ],
        cwd=up.folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    assert plain_http.get(f"{base_url(up)}/health").json()["status"] == "ok"
