"""What a route needs. One that is not listed is safe: reading needs `read`, everything else `admin`."""

from dataclasses import dataclass

from schema.access.credentials import Credential, Scope
from schema.access.secrets import CredentialKind

READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Need:
    """One of the scopes, or `admin`. `devices`: also the secret of a device. None of them: nothing."""

    scopes: tuple[Scope, ...] = ()
    devices: bool = False

    @property
    def nothing(self) -> bool:
        return not self.scopes

    def is_met_by(self, credential: Credential) -> bool:
        if self.devices and credential.kind is CredentialKind.DEVICE:
            return True
        return Scope.ADMIN in credential.scopes or not credential.scopes.isdisjoint(self.scopes)

    def __str__(self) -> str:
        key = f"a key with the scope {' or '.join(self.scopes)}"
        return f"{key}, or the secret of a device" if self.devices else key


EVERYBODY, READ, ADMIN = Need(), Need((Scope.READ,)), Need((Scope.ADMIN,))
INGEST = Need((Scope.INGEST,), devices=True)

_LISTED = {
    ("POST", "/v1/events"): INGEST,
    ("POST", "/v1/events/batch"): INGEST,
    ("POST", "/telemetry"): INGEST,
    ("GET", "/metrics"): Need((Scope.METRICS,)),
    ("GET", "/live"): EVERYBODY,
    ("GET", "/health"): EVERYBODY,  # Strangers see the status alone.
    ("GET", "/v1/info"): EVERYBODY,  # Strangers see that there is authentication.
    ("POST", "/v1/session"): EVERYBODY,  # The key is in the body.
    ("DELETE", "/v1/session"): EVERYBODY,  # It ends the session of the caller's own cookie.
    ("GET", "/"): EVERYBODY,
    ("GET", "/favicon.ico"): EVERYBODY,
    ("GET", "/docs"): EVERYBODY,
    ("GET", "/openapi.json"): EVERYBODY,
    ("GET", "/asyncapi"): EVERYBODY,
}
# Files that every visitor of the pages loads.
_FILES = ("/docs/", "/docs-assets", "/page/")


def needed(method: str, path_template: str) -> Need:
    """HEAD and OPTIONS need what GET needs."""
    method = "GET" if method in READING else method
    listed = _LISTED.get((method, path_template))
    if listed is not None:
        return listed
    if method != "GET":
        return ADMIN
    return EVERYBODY if path_template.startswith(_FILES) else READ


def may_read(credential: Credential | None) -> bool:
    return credential is not None and READ.is_met_by(credential)
