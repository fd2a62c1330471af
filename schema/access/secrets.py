"""Secrets of devices and keys: how they look, and what is kept of them.

A secret is `vwd_` (device) or `vwk_` (key), 43 characters of 256 random bits, and 6 characters of a checksum,
which tells a mistyped secret from a wrong one, and lets scanners of source code find lost ones.
"""

import base64
import hashlib
import secrets
import zlib
from dataclasses import dataclass
from enum import StrEnum

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_BITS, SECRET_CHARS, CHECK_CHARS = 256, 43, 6
# Iterations protect guessable passwords; these hold 256 random bits. Mosquitto computes the hash of every
# connected client again at each reload, and stands still meanwhile: 8,000 clients took 1 s with its usual
# 101 iterations, and 0.1 s with one.
PBKDF2_ITERATIONS = 1
SALT_BYTES, HASH_BYTES = (
    9,
    64,
)  # 12 characters of Base64: Mosquitto refuses a salt of another length.


class CredentialKind(StrEnum):
    DEVICE = "device"
    KEY = "key"
    CERTIFICATE = "certificate"


PREFIXES = {CredentialKind.DEVICE: "vwd_", CredentialKind.KEY: "vwk_"}


@dataclass(frozen=True, slots=True)
class BrokerHash:
    """PBKDF2-SHA512 of a secret, with 64 bytes, as Mosquitto and EMQX read it."""

    salt: str
    hash: bytes
    iterations: int = PBKDF2_ITERATIONS

    @property
    def mosquitto(self) -> str:
        """The field behind the login in Mosquitto's password file."""
        salt = base64.b64encode(self.salt.encode()).decode()
        return f"$7${self.iterations}${salt}${base64.b64encode(self.hash).decode()}"


def make_secret(kind: CredentialKind) -> str:
    """A new secret of a device or key."""
    body = PREFIXES[kind] + _base62(secrets.randbits(SECRET_BITS), SECRET_CHARS)
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Whether a text can be a secret of ours: its form and checksum."""
    body, check = secret[:-CHECK_CHARS], secret[-CHECK_CHARS:]
    return secret.isascii() and body[:4] in PREFIXES.values() and check == _checksum(body)


def digest(secret: bytes) -> bytes:
    """What we keep and look up: SHA-256 of the whole text."""
    return hashlib.sha256(secret).digest()


def broker_hash(
    secret: str, salt: str | None = None, iterations: int = PBKDF2_ITERATIONS
) -> BrokerHash:
    salt = salt or base64.b64encode(secrets.token_bytes(SALT_BYTES)).decode()
    key = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt.encode(), iterations, HASH_BYTES)
    return BrokerHash(salt, key, iterations)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
