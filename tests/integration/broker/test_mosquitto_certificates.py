"""Mosquitto with TLS: which versions it speaks, and devices that show a certificate."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mosquitto.listeners import Certificates
from tests.support.brokers.guarded_mosquitto import (
    certificate,
    device,
    guarded_mosquitto,
    secret_of,
)
from tests.support.brokers.mosquitto import require_mosquitto
from tests.support.network.certificates import Authority
from tests.support.processes.services import temporary_folder

pytestmark = pytest.mark.slow
LOGINS = (device("devA"), certificate("certA"), certificate("a:b"))


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    require_mosquitto()
    with temporary_folder() as folder:
        yield Authority.make(folder / "authority")


@pytest.fixture(scope="module")
def server_files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("localhost", extensions="server")


@pytest.fixture
def certificates(authority: Authority, server_files: tuple[Path, Path]) -> Iterator[Certificates]:
    """A folder as it is mounted: with TLS, and with client certificates."""
    with temporary_folder() as folder:
        for source, name in zip(server_files, ("server.crt", "server.key"), strict=True):
            (folder / name).write_bytes(source.read_bytes())
        (folder / "clients.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
        yield Certificates(folder)


def context(authority: Authority, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.folder / "ca.crt")
    if shown is not None:
        made.load_cert_chain(*shown)
    return made


async def test_passwords_work_over_tls_as_without(
    authority: Authority, certificates: Certificates
) -> None:
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        session = await guarded.ours("devices/+/telemetry")
        client = await guarded.connect_over_tls(
            context(authority), "devA", password=secret_of("devA")
        )
        await client.publish("devices/devA/telemetry", b"1")
        assert (await session.message()).topic == "devices/devA/telemetry"
        with pytest.raises(AssertionError, match="refused: 5"):
            await guarded.connect_over_tls(context(authority), "devA", password="guessed")
        with pytest.raises(AssertionError, match="refused: 5"):
            await guarded.connect_over_tls(context(authority), "devA", password="")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "works"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)]
)
async def test_tls_is_1_2_or_newer(
    authority: Authority,
    certificates: Certificates,
    version: ssl.TLSVersion,
    works: bool,  # noqa: FBT001
) -> None:
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        tls = context(authority)
        tls.set_ciphers("ALL:@SECLEVEL=0")
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = version
        try:
            client = await guarded.connect_over_tls(tls, "devA", password=secret_of("devA"))
        except ssl.SSLError:
            assert not works
        else:
            assert works
            client.disconnect()


async def test_a_certificate_writes_the_topics_of_its_common_name_and_no_other(
    authority: Authority, certificates: Certificates
) -> None:
    tls = context(authority, authority.issue("certA"))
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        session = await guarded.ours("devices/+/telemetry")
        for topic in ("devices/devA/telemetry", "alerts/certA/1", "devices/certA/telemetry"):
            client = await guarded.connect_over_tls(tls, "whatever")
            await client.try_to_publish(topic)
        assert (await session.message()).topic == "devices/certA/telemetry"


async def test_a_certificate_reads_its_own_receipts_under_its_own_client_id(
    authority: Authority, certificates: Certificates
) -> None:
    tls = context(authority, authority.issue("a:b"))
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        session, neighbour = await guarded.ours(), await guarded.connect("devA")
        client = await guarded.connect_over_tls(tls, "devA")
        await client.subscribe("#")
        for topic in ("devices/devA/receipts", "devices/a:b/receipts"):
            await session.publish(topic, b"1")
        assert (await client.message()).topic == "devices/a:b/receipts"
        await neighbour.ping()


@pytest.mark.parametrize("name", ["devA", "unknown", "voltwire-ingest", "+", "#", "$SYS"])
async def test_a_common_name_that_is_not_registered_as_a_certificate_may_do_nothing(
    authority: Authority, certificates: Certificates, name: str
) -> None:
    tls = context(authority, authority.issue(name))
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        session = await guarded.ours("devices/+/telemetry", "devices/+/status")
        own = [f"devices/{name}/telemetry"] if name.isalnum() else []
        for topic in (*own, "devices/certA/telemetry", "devices/devA/status"):
            client = await guarded.connect_over_tls(tls, "x", will=(topic, b"offline"))
            await client.try_to_publish(topic)
            client.drop()
        witness = await guarded.connect("devA")
        await witness.publish("devices/devA/telemetry", b"1")
        assert (await session.message()).topic == "devices/devA/telemetry"


async def test_without_a_certificate_of_the_authority_nobody_gets_in(
    authority: Authority, certificates: Certificates
) -> None:
    with temporary_folder() as folder:
        foreign = Authority.make(folder / "foreign").issue("certA")
        async with guarded_mosquitto(LOGINS, certificates) as guarded:
            for shown in (None, foreign):
                with pytest.raises((ssl.SSLError, AssertionError)):
                    await guarded.connect_over_tls(context(authority, shown), "certA")


async def test_a_revoked_certificate_that_is_connected_may_do_nothing_after_a_reload(
    authority: Authority, certificates: Certificates
) -> None:
    """The exception: Mosquitto does not end its connection. It has no right left on it."""
    tls = context(authority, authority.issue("certA"))
    async with guarded_mosquitto(LOGINS, certificates) as guarded:
        session = await guarded.ours("devices/+/telemetry")
        client = await guarded.connect_over_tls(tls, "certA")
        await client.subscribe("devices/certA/receipts")
        guarded.reload(device("devA"))
        await session.ping()
        await session.publish("devices/certA/receipts", b"1")
        await client.try_to_publish("devices/certA/telemetry")
        assert client.waiting == 0
        witness = await guarded.connect("devA")
        await witness.publish("devices/devA/telemetry", b"1")
        assert (await session.message()).topic == "devices/devA/telemetry"


async def test_a_certificate_on_the_authoritys_list_is_refused_after_a_reload(
    certificates: Certificates,
) -> None:
    with temporary_folder() as folder:
        own = Authority.make(folder / "own")
        shown = own.issue("certA")
        (certificates.folder / "clients.crt").write_bytes((own.folder / "ca.crt").read_bytes())
        own.list_revoked(certificates.folder / "clients.crl")
        server = ssl.create_default_context()
        server.check_hostname, server.verify_mode = False, ssl.CERT_NONE
        server.load_cert_chain(*shown)
        async with guarded_mosquitto(LOGINS, certificates) as guarded:
            client = await guarded.connect_over_tls(server, "certA")
            own.revoke(shown[0], certificates.folder / "clients.crl")
            guarded.broker.reload()
            await client.ping()  # The gap: what is connected stays.
            client.drop()
            with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
                await guarded.connect_over_tls(server, "certA")
