"""Settings by docs/configuration.md: from the environment and `.env`, and those refused at start."""

import os
from pathlib import Path
from typing import Any

import pytest

from runtime.addresses import MqttAddress
from runtime.errors import ConfigurationError
from runtime.settings import Settings, load_settings

# Section 2, row by row. None: unset or embedded.
DEFAULTS: dict[str, Any] = {
    "database_url": None,
    "owner_database_url": None,
    "mqtt_url": None,
    "mqtt_ca_file": None,
    "mqtt_cert_file": None,
    "mqtt_key_file": None,
    "data_dir": Path(".voltwire"),
    "http_host": "127.0.0.1",
    "http_port": 8000,
    "mqtt_host": "127.0.0.1",
    "mqtt_port": 1883,
    "status_host": "127.0.0.1",
    "status_port": None,
    "instance": "voltwire",
    "auth": "auto",
    "trusted_network": False,
    "publish_host": "127.0.0.1",
    "rate_limit_requests": 10,
    "rate_limit_window_seconds": 1,
    "mqtt_rate_limit": 0,
    "cors_origins": None,
    "public_url": None,
    "public_mqtt_url": None,
    "api_key": None,
    "trusted_proxies": None,
    "streams_max": 1000,
    "bodies_bytes_max": 134_217_728,
    "max_payload_bytes": 262_144,
    "max_event_age_days": 3650,
    "max_future_seconds": 300,
    "default_profile": "battery",
    "offline_after_seconds": 300,
    "retention_days": 0,
    "rejected_days": 30,
    "ha_discovery": False,
    "notify_private_addresses": False,
    "log_level": "info",
    "log_format": "auto",
}


@pytest.fixture(autouse=True)
def _clean_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder without our environment variables, in any spelling."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def refused(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_settings(**overrides)
    return str(error.value)


def decided(**overrides: Any) -> Settings:
    """The settings as they are read, before contradictions are checked."""
    return Settings(**overrides)


def write_env(*lines: str) -> None:
    Path(".env").write_text("\n".join(lines) + "\n", encoding="utf-8")


# -- Where settings come from. --


def test_the_defaults_are_those_of_the_documents() -> None:
    settings = load_settings()
    assert {name: getattr(settings, name) for name in Settings.model_fields} == DEFAULTS


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "8080")
    monkeypatch.setenv("TRUSTED_NETWORK", "true")
    monkeypatch.setenv("RATE_LIMIT_WINDOW_SECONDS", "0.5")
    monkeypatch.setenv("STATUS_PORT", "9100")
    settings = load_settings()
    assert settings.http_port == 8080
    assert settings.trusted_network is True
    assert settings.rate_limit_window_seconds == 0.5
    assert settings.status_port == 9100


def test_settings_come_from_a_file_and_the_environment_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_env("HTTP_PORT=8081", "MQTT_PORT=1884", "# a comment", "", "INSTANCE='two'")
    monkeypatch.setenv("MQTT_PORT", "1885")
    settings = load_settings()
    assert (settings.http_port, settings.mqtt_port, settings.instance) == (8081, 1885, "two")
    assert load_settings(http_port=1).http_port == 1


def test_names_that_are_not_ours_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("POSTGRES_PASSWORD=secret", "VOLTWIRE=1", "debug=yes", "HTTP_PORTS=1,2")
    monkeypatch.setenv("RATE_LIMIT", "none")
    assert load_settings() == Settings()
    assert load_settings().http_port == 8000


def test_an_empty_value_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("DATABASE_URL=", "STATUS_PORT=", "MQTT_CA_FILE=")
    monkeypatch.setenv("HTTP_PORT", "")
    settings = load_settings()
    assert settings.database_url is None
    assert (settings.status_port, settings.mqtt_ca_file, settings.http_port) == (None, None, 8000)


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().http_port = 1  # type: ignore[misc]  # mypy reports it too.


# -- Addresses. --


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql://u:p@db:5432/telemetry", "postgresql://u:p@db:5432/telemetry"),
        ("postgresql+asyncpg://u:p@db:5432/telemetry", "postgresql://u:p@db:5432/telemetry"),
        (
            "postgresql+asyncpg://postgres:p%40ss+asyncpg@localhost/telemetry?ssl=require",
            "postgresql://postgres:p%40ss+asyncpg@localhost/telemetry?ssl=require",
        ),
        (
            "postgresql:///telemetry?host=/run/postgresql",
            "postgresql:///telemetry?host=/run/postgresql",
        ),
    ],
)
def test_both_forms_of_a_database_url_name_the_same_database(
    monkeypatch: pytest.MonkeyPatch, url: str, dsn: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert load_settings().dsn == dsn


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@db/x",
        "postgresql+psycopg2://u:hunter2@db/x",
        "u:hunter2@db:5432/x",
        "postgresql:db",
        "sqlite:///x",
        "db",
    ],
)
def test_another_database_is_refused_without_repeating_the_password(url: str) -> None:
    message = refused(database_url=url)
    assert "DATABASE_URL" in message
    assert "hunter2" not in message


def test_a_role_that_needs_a_database_says_how_to_name_one() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        _ = load_settings().dsn


def test_without_a_url_the_broker_is_the_embedded_one() -> None:
    assert load_settings().mqtt == MqttAddress("127.0.0.1", 1883, embedded=True)


@pytest.mark.parametrize(
    ("listener", "reached_at"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")]
)
def test_the_embedded_broker_is_reached_where_it_listens(listener: str, reached_at: str) -> None:
    address = decided(mqtt_host=listener, mqtt_port=1999).mqtt
    assert (address.host, address.port, address.embedded) == (reached_at, 1999, True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", MqttAddress("broker", 1883)),
        ("mqtt://broker:1999", MqttAddress("broker", 1999)),
        ("mqtts://broker", MqttAddress("broker", 8883, tls=True)),
        ("mqtt://[::1]:1999", MqttAddress("::1", 1999)),
        ("mqtt://user:pass@host:1883", MqttAddress("host", 1883, "user", "pass")),
        ("mqtts://u%40x:p%3A%2F%23@h:8884", MqttAddress("h", 8884, "u@x", "p:/#", tls=True)),
    ],
)
def test_an_mqtt_url_names_broker_and_credentials(url: str, expected: MqttAddress) -> None:
    assert load_settings(mqtt_url=url).mqtt == expected


@pytest.mark.parametrize(
    "url", ["broker:1883", "mqtt://", "http://broker", "tcp://broker:1883", "mqtt://[::1"]
)
def test_another_mqtt_url_is_refused_with_an_example(url: str) -> None:
    message = refused(mqtt_url=url)
    assert "MQTT_URL" in message


@pytest.mark.parametrize(
    "url", ["mqtt://host:99999", "mqtt://host:port", "mqtt://user:hun/ter2@host", "mqtts://h:-1"]
)
def test_an_mqtt_url_with_an_impossible_port_is_refused_like_any_other_fault(url: str) -> None:
    message = refused(mqtt_url=url)
    assert "MQTT_URL" in message
    assert "hun" not in message, "part of a password"


def test_secrets_are_not_shown() -> None:
    settings = load_settings(
        database_url="postgresql://u:hunter2@db/x", mqtt_url="mqtt://u:hunter3@h",
        api_key="vwk_hunter4",
    )  # fmt: skip
    for text in (repr(settings), str(settings), repr(settings.mqtt), str(settings.mqtt)):
        assert "hunter" not in text
    assert str(settings.mqtt) == "mqtt://h:1883"


# -- What is refused. --


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("HTTP_PORT", ["-1", "65536", "http", "80.5"]),
        ("MQTT_PORT", ["-1", "65536"]),
        ("STATUS_PORT", ["-1", "65536", "on"]),
        ("INSTANCE", ["a b", "a/b", "#", "-a", "x" * 65]),
        ("AUTH", ["yes", "none"]),
        ("TRUSTED_NETWORK", ["perhaps"]),
        ("RATE_LIMIT_REQUESTS", ["0", "-1", "1.5"]),
        (
            "CORS_ORIGINS",
            ["dashboard.example", "https://a.example/", "ftp://a.example", "https://"],
        ),
        ("PUBLIC_URL", ["voltwire.example", "mqtt://a.example", "https://u:p@a.example"]),
        ("PUBLIC_MQTT_URL", ["https://a.example", "mqtt://", "mqtt://u:p@a.example"]),
        ("API_KEY", ["vwk_a b", "vwk_\u00e9", "x" * 257]),
        ("STREAMS_MAX", ["0", "x"]),
        ("BODIES_BYTES_MAX", ["1000"]),
        ("RATE_LIMIT_WINDOW_SECONDS", ["0", "-1", "nan", "inf"]),
        ("MAX_PAYLOAD_BYTES", ["0", "-1", "1e99"]),
        ("MAX_EVENT_AGE_DAYS", ["0", "-1", "99999999"]),
        ("MAX_FUTURE_SECONDS", ["-1"]),
        ("OFFLINE_AFTER_SECONDS", ["0", "9"]),
        ("RETENTION_DAYS", ["-1", "x"]),
        ("REJECTED_DAYS", ["-1", "0"]),
        ("LOG_LEVEL", ["loud"]),
        ("LOG_FORMAT", ["xml"]),
    ],
)
def test_a_value_out_of_its_limits_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, values: list[str]
) -> None:
    for value in values:
        monkeypatch.setenv(name, value)
        assert f" {name}: " in refused(), value


def test_one_message_lists_all_faults() -> None:
    message = refused(http_port="x", mqtt_port=-1, database_url="sqlite://", auth="maybe")
    for name in ("HTTP_PORT", "MQTT_PORT", "DATABASE_URL", "AUTH"):
        assert f" {name}: " in message


def test_events_may_be_kept_for_a_shorter_or_a_longer_time_than_they_are_accepted() -> None:
    for days in (1, 36_525):
        assert load_settings(retention_days=days).retention_days == days


def test_one_message_lists_all_contradictions() -> None:
    message = refused(
        auth="off", http_host="0.0.0.0", mqtt_cert_file="no-such.pem", mqtt_ca_file="nor-this.pem"
    )
    assert "AUTH=off with a listener on 0.0.0.0" in message
    assert "MQTT_CERT_FILE and MQTT_KEY_FILE go together" in message
    assert "mqtts://" in message
    assert "no-such.pem" in message
    assert "nor-this.pem" in message


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"mqtt_ca_file": "ca.pem"}, None),
        ({"mqtt_cert_file": "cert.pem", "mqtt_key_file": "key.pem"}, None),
        ({"mqtt_cert_file": "cert.pem"}, "go together"),
        ({"mqtt_key_file": "key.pem"}, "go together"),
        ({"mqtt_ca_file": "missing.pem"}, "MQTT_CA_FILE: there is no file missing.pem"),
    ],
)
def test_tls_files_exist_and_come_in_pairs(files: dict[str, str], fault: str | None) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        Path(name).touch()
    if fault is not None:
        assert fault in refused(mqtt_url="mqtts://broker", **files)
        return
    address = load_settings(mqtt_url="mqtts://broker", **files).mqtt
    assert {name: str(getattr(address, name.removeprefix("mqtt_"))) for name in files} == files
    assert "mqtts://" in refused(mqtt_url="mqtt://broker", **files)
    assert "mqtts://" in refused(**files)


# -- Authentication. --

LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"]
EXPOSED = ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "fe80::1", "voltwire.example", ""]
LISTENERS = ["http_host", "mqtt_host"]


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("host", LOOPBACK)
def test_auto_is_off_while_every_listener_is_loopback(listener: str, host: str) -> None:
    assert not load_settings(**{listener: host}).authenticated
    assert not load_settings(**{listener: host}, auth="off").authenticated
    assert decided(**{listener: host}, auth="on").authenticated


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("host", EXPOSED)
def test_auto_is_on_once_a_listener_can_be_reached_from_outside(listener: str, host: str) -> None:
    assert decided(**{listener: host}).authenticated
    assert decided(**{listener: host}, trusted_network=True).authenticated
    assert decided(**{listener: host}, auth="on").authenticated


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("host", EXPOSED)
def test_off_on_another_address_is_refused_except_on_a_trusted_network(
    listener: str, host: str
) -> None:
    message = refused(**{listener: host}, auth="off")
    assert f"AUTH=off with a listener on {host}" in message
    assert "TRUSTED_NETWORK=true" in message
    trusted = load_settings(**{listener: host}, auth="off", trusted_network=True)
    assert not trusted.authenticated


def test_every_exposed_listener_is_named() -> None:
    message = refused(http_host="10.0.0.1", mqtt_host="10.0.0.2", auth="off")
    assert "10.0.0.1" in message
    assert "10.0.0.2" in message


def test_with_a_broker_of_ones_own_its_listener_is_not_ours() -> None:
    for auth in ("auto", "off"):
        settings = load_settings(mqtt_host="0.0.0.0", mqtt_url="mqtt://broker", auth=auth)
        assert not settings.authenticated


def test_the_status_listener_counts_once_it_has_a_port() -> None:
    assert not load_settings(status_host="0.0.0.0", auth="off").authenticated
    assert not load_settings(status_host="0.0.0.0").authenticated
    assert decided(status_host="0.0.0.0", status_port=9100).authenticated
    assert "AUTH=off" in refused(status_host="0.0.0.0", status_port=9100, auth="off")


# -- The owner of the tables. --


def test_the_owners_login_is_used_where_it_is_needed_and_only_there() -> None:
    both = load_settings(
        database_url="postgresql://app@db/v", owner_database_url="postgresql+asyncpg://owner@db/v"
    )
    assert both.dsn == "postgresql://app@db/v"
    assert both.as_owner().dsn == "postgresql://owner@db/v"
    one = load_settings(database_url="postgresql://app@db/v")
    assert one.as_owner().dsn == "postgresql://app@db/v"


def test_the_owners_login_alone_is_refused() -> None:
    assert "OWNER_DATABASE_URL needs DATABASE_URL" in refused(
        owner_database_url="postgresql://owner@db/v"
    )


# -- Proxies. --


def test_trusted_proxies_are_addresses_and_networks_of_both_families() -> None:
    settings = load_settings(trusted_proxies="127.0.0.1, 10.0.0.0/8,fd00::/8,")
    assert settings.proxy_networks == [
        "127.0.0.1/32", "::ffff:127.0.0.1/128", "10.0.0.0/8", "::ffff:10.0.0.0/104", "fd00::/8",
    ]  # fmt: skip
    assert load_settings().proxy_networks == []


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1;::1"])
def test_a_proxy_that_is_no_address_is_refused(text: str) -> None:
    assert "TRUSTED_PROXIES: must list addresses or networks" in refused(trusted_proxies=text)


def test_a_fault_is_named_in_words_of_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"HTTP_PORT": "x", "RETENTION_DAYS": "-1", "AUTH": "maybe", "HA_DISCOVERY": "5"}
    for name, value in (wrong | {"INSTANCE": "a b"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    text = str(refused.value)
    assert "RETENTION_DAYS: must be greater than or equal to 0." in text
    assert "AUTH: must be 'auto', 'on' or 'off'." in text
    assert "HTTP_PORT: must be an integer." in text
    assert "HA_DISCOVERY: must be true or false." in text
    assert "Input" not in text
    assert "String" not in text
