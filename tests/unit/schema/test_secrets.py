"""Secrets: their form, and the hashes that brokers read."""

import base64
import hashlib

import pytest

from schema.access.secrets import CredentialKind, broker_hash, digest, is_well_formed, make_secret


@pytest.mark.parametrize(
    ("kind", "prefix"), [(CredentialKind.DEVICE, "vwd_"), (CredentialKind.KEY, "vwk_")]
)
def test_a_secret_has_the_prefix_of_its_kind_and_a_checksum(
    kind: CredentialKind, prefix: str
) -> None:
    secret = make_secret(kind)
    assert secret.startswith(prefix)
    assert len(secret) == 4 + 43 + 6
    assert is_well_formed(secret)


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + "0", lambda s: s.swapcase()])
def test_a_mistyped_secret_is_not_well_formed(change: object) -> None:
    assert not is_well_formed(change(make_secret(CredentialKind.KEY)))  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "x", "vwk_", "é" * 53, "vwx_" + "0" * 49])
def test_other_texts_are_not_well_formed(text: str) -> None:
    assert not is_well_formed(text)


def test_the_digest_is_sha_256_of_the_whole_text() -> None:
    assert digest(b"vwk_abc") == hashlib.sha256(b"vwk_abc").digest()


def test_the_broker_hash_is_one_line_of_mosquitto() -> None:
    hashed = broker_hash("secret")
    name, iterations, salt, key = hashed.mosquitto.split("$")[1:]
    assert (name, iterations) == ("7", "1")
    assert len(base64.b64decode(salt)) == 12  # Mosquitto refuses every other length.
    expected = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), 1)
    assert base64.b64decode(key) == expected == hashed.hash
