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
# A slow hash protects guessable passwords. These hold 256 random bits, and brokers compute it at each login.
PBKDF2_ITERATIONS = 101
SALT_BYTES, HASH_BYTES = 12, 64


class Kind(StrEnum):
    DEVICE = "device"
    KEY = "key"
    CERTIFICATE = "certificate"


PREFIXES = {Kind.DEVICE: "vwd_", Kind.KEY: "vwk_"}


@dataclass(frozen=True, slots=True)
class BrokerHash:
    """PBKDF2-SHA512 of a secret, with 101 iterations and 64 bytes, as Mosquitto and EMQX read it."""

    salt: str
    hash: bytes

    @property
    def mosquitto(self) -> str:
        """The field behind the login in Mosquitto's password file."""
        salt = base64.b64encode(self.salt.encode()).decode()
        return f"$7${PBKDF2_ITERATIONS}${salt}${base64.b64encode(self.hash).decode()}"


def make_secret(kind: Kind) -> str:
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


def broker_hash(secret: str, salt: str | None = None) -> BrokerHash:
    salt = salt or base64.b64encode(secrets.token_bytes(SALT_BYTES)).decode()
    key = hashlib.pbkdf2_hmac(
        "sha512", secret.encode(), salt.encode(), PBKDF2_ITERATIONS, HASH_BYTES
    )
    return BrokerHash(salt, key)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
