"""The password by which the embedded broker knows our own sessions."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.broker_password import broker_password, with_broker_password
from runtime.errors import StartError
from runtime.settings import Auth, Settings


def settings(folder: Path, mqtt_url: str | None = None, auth: Auth = Auth.OFF) -> Settings:
    url = None if mqtt_url is None else SecretStr(mqtt_url)
    return Settings(_env_file=None, data_dir=folder, mqtt_url=url, auth=auth)


def test_separate_roles_share_a_password_in_a_file_that_only_their_user_can_read(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    for_broker = broker_password(settings(folder))
    role = with_broker_password(settings(folder))
    assert role.mqtt.password == for_broker
    assert role.mqtt.username is None
    assert len(for_broker) >= 43  # 256 bits.
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert for_broker not in repr(role) + str(role) + repr(role.mqtt)


def test_roles_that_start_at_once_get_the_same_password(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: broker_password(settings(tmp_path / "data")), range(32)))
    assert len(found) == 1


def test_the_password_in_mqtt_url_counts_before_the_file(tmp_path: Path) -> None:
    named = settings(tmp_path / "data", "mqtt://voltwire:secret@127.0.0.1")
    assert broker_password(named) == "secret"
    assert with_broker_password(named).mqtt.password == "secret"
    assert not (tmp_path / "data").exists()


def test_mqtt_url_without_a_password_stays_as_it_is(tmp_path: Path) -> None:
    other = settings(tmp_path / "data", "mqtt://127.0.0.1")
    assert with_broker_password(other).mqtt.password is None


def test_with_authentication_on_a_broker_for_which_there_is_no_login_gets_the_password_of_the_file(
    tmp_path: Path,
) -> None:
    """The one that voltwire broker-files puts into Mosquitto's files."""
    role = with_broker_password(settings(tmp_path, "mqtt://127.0.0.1", Auth.ON))
    assert role.mqtt.password == broker_password(role)
    assert (role.mqtt.host, role.mqtt.username) == ("127.0.0.1", None)


@pytest.mark.parametrize("login", [":secret@", "user@", "user:secret@"])
def test_with_authentication_on_a_login_in_mqtt_url_is_used(tmp_path: Path, login: str) -> None:
    named = settings(tmp_path / "data", f"mqtt://{login}127.0.0.1", Auth.ON)
    assert with_broker_password(named).mqtt == named.mqtt
    assert not (tmp_path / "data").exists()


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker-password").mkdir()
    with pytest.raises(StartError, match="broker-password cannot be used"):
        broker_password(settings(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "broker-password").touch()
    with pytest.raises(StartError, match="is empty: delete it"):
        broker_password(settings(empty))
