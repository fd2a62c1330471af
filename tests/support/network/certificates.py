"""An authority of the test's own, made with openssl: certificates of servers and clients."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes.programs import require_program

SETTINGS = """
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
default_days = 1
default_crl_days = 1
policy = policy
unique_subject = no
[policy]
commonName = supplied
[server]
subjectAltName = DNS:localhost,IP:127.0.0.1
[client]
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """`folder` holds its certificate, ca.crt."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        require_program("openssl")
        folder.mkdir(parents=True)
        authority = cls(folder)
        (folder / "openssl.cnf").write_text(SETTINGS.format(folder=folder))
        (folder / "index.txt").touch()
        for name in ("serial", "crlnumber"):
            (folder / name).write_text("01\n")
        authority._openssl(
            f"req -x509 -newkey ec:{authority._curve()} -nodes -days 1 -subj /CN=authority"
            f" -keyout {folder}/ca.key -out {folder}/ca.crt"
        )
        return authority

    def issue(self, common_name: str, *, extensions: str = "client") -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        name = common_name.encode().hex()
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        self._openssl(
            f"req -newkey ec:{self._curve()} -nodes -keyout {key} -out {request}",
            "-subj", "/CN=" + common_name.replace("+", r"\+"),
        )  # fmt: skip
        self._openssl(
            f"ca -batch -config {self.folder}/openssl.cnf -extensions {extensions} -notext"
            f" -in {request} -out {certificate}"
        )
        key.chmod(0o644)  # Mosquitto reads it as another user.
        return certificate, key

    def revoke(self, certificate: Path, revocations: Path) -> None:
        self._openssl(f"ca -config {self.folder}/openssl.cnf -revoke {certificate}")
        self.list_revoked(revocations)

    def list_revoked(self, revocations: Path) -> None:
        self._openssl(f"ca -config {self.folder}/openssl.cnf -gencrl -out {revocations}")

    def _curve(self) -> Path:
        curve = self.folder / "curve.pem"
        if not curve.exists():
            self._openssl(f"ecparam -name prime256v1 -out {curve}")
        return curve

    def _openssl(self, line: str, *more: str) -> None:
        done = subprocess.run(
            ["openssl", *line.split(), *more], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
