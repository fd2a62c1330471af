"""PostgreSQL's programs pg_dump, pg_restore and psql: which of them to run, and as whom.

The embedded server gets those of its wheel, run as its own user. Any other server gets the first in PATH
that is as new as the server, else the wheel's: a dump by an older program than the server fails.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from runtime.errors import StartError
from runtime.postgres.home import PROGRAMS, find_home, runnable_programs, wheel_folder
from runtime.postgres.user import ServerUser

VERSION = re.compile(rb"\(PostgreSQL\) (\d+)")
VERSION_S_MAX = 10
LIBPQ_URL = "postgresql://"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs; `user` is None for our own."""

    path: Path
    user: ServerUser | None = None

    @classmethod
    def embedded(cls, name: str, data_dir: Path) -> Self:
        """The program of the wheel, where the user of the embedded server can run it. Raises StartError."""
        user = ServerUser.choose()
        return cls(runnable_programs(find_home(data_dir.resolve(), user)) / name, user)

    @classmethod
    def for_server(cls, name: str, server_major: int) -> Self:
        """Raises StartError if no program here is as new as the server."""
        found = []
        for path in (shutil.which(name), wheel_folder() / PROGRAMS / name):
            if path is None or (major := _major(Path(path))) is None:
                continue
            if major >= server_major:
                return cls(Path(path))
            found.append(f"{path} is of version {major}")
        why = f" ({', '.join(found)})" if found else ""
        raise StartError(
            f"The server is PostgreSQL {server_major}, and there is no {name} of that version or newer"
            f" here{why}: install the client programs of PostgreSQL {server_major} and put them first"
            " in PATH."
        )

    def start(self, dsn: str, *arguments: str, **files: Any) -> "subprocess.Popen[bytes]":
        """Start it on a database; it ends with us, and Ctrl-C reaches only us."""
        url, password = without_password(dsn)
        environment = {} if password is None else {"PGPASSWORD": password}
        if self.user is None:
            options = ServerUser(os.geteuid(), os.getegid()).background_options()
            options |= {"env": {**os.environ, "LC_ALL": "C", **environment}, "cwd": None}
        else:
            options = self.user.background_options()
        return subprocess.Popen([self.path, *arguments, f"--dbname={url}"], **options, **files)


def without_password(dsn: str) -> tuple[str, str | None]:
    """The DSN as a program may show it in a list of processes, and the password it held."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    passwords = [value for name, value in query if name == "password"]
    others = [(name, value) for name, value in query if name != "password"]
    kept = parts._replace(
        netloc=f"{user}{at}{hosts}", query=urlencode(others, quote_via=quote, safe="/")
    )
    known = passwords[-1] if passwords else unquote(password) or None
    return _unsplit(kept), known


def with_database(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    parts = urlsplit(dsn)
    query = [
        (key, value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if key not in {"dbname", "database"}
    ]
    changed = parts._replace(
        path=f"/{quote(name, safe='')}", query=urlencode(query, quote_via=quote, safe="/")
    )
    return _unsplit(changed)


def _unsplit(parts: Any) -> str:
    """A URL that names no host keeps its slashes, which urlunsplit leaves out."""
    text = str(urlunsplit(parts))
    return text if text.startswith(LIBPQ_URL) else LIBPQ_URL + text.partition(":")[2]


def _major(program: Path) -> int | None:
    """None if it does not run."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, check=False, timeout=VERSION_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = VERSION.search(said.stdout)
    return int(match[1]) if match else None
