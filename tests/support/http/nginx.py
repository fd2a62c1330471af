"""Debian's nginx with deploy/nginx/voltwire.conf, on free ports and with a self-made certificate."""

import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.processes.programs import require_program
from tests.support.processes.services import ROOT, free_port, temporary_folder

NAME = "voltwire.example"
START_S_MAX, STOP_S_MAX = 60, 60
# What Debian's nginx.conf is around the files of conf.d, but in a folder of its own.
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/voltwire.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    https_port: int
    http_port: int
    tls: ssl.SSLContext

    def client(self, local_address: str | None = None) -> httpx.Client:
        """A client that trusts the certificate and asks for the name in it."""
        transport = httpx.HTTPTransport(verify=self.tls, local_address=local_address)
        return httpx.Client(
            base_url=f"https://localhost:{self.https_port}", transport=transport, timeout=30
        )


@contextmanager
def nginx(backend_port: int) -> Iterator[Nginx]:
    program = require_program("nginx")
    with temporary_folder() as folder:
        certificate = _certificate(folder)
        ports = free_port(), free_port()
        (folder / "voltwire.conf").write_text(_configuration(folder, backend_port, *ports))
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        process = subprocess.Popen(
            [program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        )
        try:
            deadline = time.monotonic() + START_S_MAX
            while not (folder / "nginx.pid").exists():  # Written once it listens.
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((folder / "error.log").read_text())
                time.sleep(0.02)
            yield Nginx(*ports, ssl.create_default_context(cafile=certificate))
        finally:
            process.terminate()
            process.wait(STOP_S_MAX)


def _configuration(folder: Path, backend_port: int, https_port: int, http_port: int) -> str:
    text = (ROOT / "deploy/nginx/voltwire.conf").read_text()
    for pattern, replacement, count in (
        (r"(?m)^ *listen \[::\]:.*\n", "", 2),
        (r"(?m)^ *listen 443 ", f"listen 127.0.0.1:{https_port} ", 1),
        (r"listen 80;", f"listen 127.0.0.1:{http_port};", 1),
        (r"127\.0\.0\.1:8000;", f"127.0.0.1:{backend_port};", 1),
        (r"/etc/ssl/voltwire/", f"{folder}/", 2),
    ):
        text, found = re.subn(pattern, replacement, text)
        assert found == count, pattern
    return text


def _certificate(folder: Path) -> Path:
    certificate = folder / "fullchain.pem"
    command: list[str | Path] = [
        require_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "1", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:localhost",
        "-keyout", folder / "privkey.pem", "-out", certificate,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return certificate
