"""The name of this program in commands that are shown, to be pasted into another terminal."""

import shutil
import sys
from pathlib import Path
from shlex import quote


def program_path() -> str:
    """How this program is called from the present folder."""
    script = Path(sys.executable).with_name("voltwire")
    found = shutil.which("voltwire")
    if found is not None and Path(found).resolve() == script.resolve():
        return "voltwire"
    if not script.exists():
        return f"{quote(sys.executable)} -m cli"
    return quote(
        str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)
    )
