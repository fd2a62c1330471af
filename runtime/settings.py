"""The settings of every role, read from the environment and `.env`.

docs/configuration.md fixes names and defaults; a test compares the two.
"""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.addresses import MqttAddress, both_forms, connect_host, is_loopback
from runtime.errors import ConfigurationError
from runtime.plain_words import plain
from runtime.setting_types import (
    HeaderSecret,
    MqttUrl,
    NetworkList,
    OriginList,
    Port,
    PostgresUrl,
    PublicMqttUrl,
    PublicUrl,
    listed,
)

MAX_WINDOW_DAYS = 36_525  # A century of monthly partitions.


class Auth(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class LogFormat(StrEnum):
    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(BaseSettings):
    """One frozen value, read once at start and passed to everything that needs it."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: PostgresUrl | None = None
    owner_database_url: PostgresUrl | None = None
    mqtt_url: MqttUrl | None = None
    mqtt_ca_file: Path | None = None
    mqtt_cert_file: Path | None = None
    mqtt_key_file: Path | None = None
    data_dir: Path = Path(".voltwire")
    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    mqtt_host: str = "127.0.0.1"
    mqtt_port: Port = 1883
    status_host: str = "127.0.0.1"
    status_port: Port | None = None
    instance: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = (
        "voltwire"
    )
    auth: Auth = Auth.AUTO
    trusted_network: bool = False
    publish_host: str = "127.0.0.1"
    rate_limit_requests: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    rate_limit_window_seconds: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    mqtt_rate_limit: Annotated[float, Field(ge=0, le=1_000_000)] = 0
    cors_origins: OriginList | None = None
    public_url: PublicUrl | None = None
    public_mqtt_url: PublicMqttUrl | None = None
    api_key: HeaderSecret | None = None
    trusted_proxies: NetworkList | None = None
    streams_max: Annotated[int, Field(ge=1, le=100_000)] = 1000
    bodies_bytes_max: Annotated[int, Field(ge=16 * 1024 * 1024, le=2**40)] = 134_217_728
    max_payload_bytes: Annotated[int, Field(ge=256, le=8 * 1024 * 1024)] = 262_144
    max_event_age_days: Annotated[int, Field(ge=1, le=MAX_WINDOW_DAYS)] = 3650
    max_future_seconds: Annotated[int, Field(ge=0, le=86_400 * 31)] = 300
    default_profile: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "battery"
    offline_after_seconds: Annotated[int, Field(ge=10, le=86_400 * 366)] = 300
    retention_days: Annotated[int, Field(ge=0, le=MAX_WINDOW_DAYS)] = 0
    rejected_days: Annotated[int, Field(ge=1, le=MAX_WINDOW_DAYS)] = 30
    ha_discovery: bool = False
    notify_private_addresses: bool = False
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.AUTO

    # Proves to the broker that a session is ours. No setting: see runtime/broker_password.py.
    _mqtt_password: SecretStr | None = PrivateAttr(default=None)

    @property
    def proxy_networks(self) -> list[str]:
        """The networks of TRUSTED_PROXIES; those of IPv4 also as a socket of both families shows them."""
        return [form for each in listed(self.trusted_proxies) for form in both_forms(each)]

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of CORS_ORIGINS; pages of these may call the API."""
        return tuple(listed(self.cors_origins))

    @property
    def dsn(self) -> str:
        """The database that a role connects to; `up` puts the embedded one here."""
        if self.database_url is None:
            raise ConfigurationError(
                "DATABASE_URL is not set: name the database, or run voltwire up, which starts one."
            )
        return self.database_url.get_secret_value()

    def as_owner(self) -> Self:
        """The same settings for work that only the owner of the tables may do."""
        if self.owner_database_url is None:
            return self
        return self.model_copy(update={"database_url": self.owner_database_url})

    @property
    def mqtt(self) -> MqttAddress:
        """The address that our MQTT clients connect to."""
        if self.mqtt_url is None:
            ours = self._mqtt_password
            return MqttAddress(
                host=connect_host(self.mqtt_host),
                port=self.mqtt_port,
                password=None if ours is None else ours.get_secret_value(),
                embedded=True,
            )
        address = MqttAddress.parse(
            self.mqtt_url.get_secret_value(),
            ca_file=self.mqtt_ca_file,
            cert_file=self.mqtt_cert_file,
            key_file=self.mqtt_key_file,
        )
        if self._mqtt_password is None:
            return address
        return replace(address, password=self._mqtt_password.get_secret_value())

    def with_mqtt_password(self, password: str) -> Self:
        """The same settings for a role that is known to the broker."""
        settings = self.model_copy()
        settings._mqtt_password = SecretStr(password)  # noqa: SLF001  # A copy of this class.
        return settings

    @property
    def authenticated(self) -> bool:
        """Whether callers must authenticate; AUTH=auto decides by the listeners."""
        if self.auth is Auth.AUTO:
            return not all(is_loopback(host) for host in self.listen_hosts)
        return self.auth is Auth.ON

    @property
    def listen_hosts(self) -> list[str]:
        """The addresses that our roles may listen on with these settings."""
        hosts = [self.http_host]
        if self.mqtt_url is None:
            hosts.append(self.mqtt_host)
        if self.status_port is not None:
            hosts.append(self.status_host)
        return hosts

    def contradictions(self) -> list[str]:
        """Every impossible combination, each as a sentence that says what to change."""
        found = []
        if self.owner_database_url is not None and self.database_url is None:
            found.append(
                "OWNER_DATABASE_URL needs DATABASE_URL, the login that the roles use: set both."
            )
        exposed = sorted({host for host in self.listen_hosts if not is_loopback(host)})
        if exposed and not self.authenticated and not self.trusted_network:
            found.append(
                f"AUTH=off with a listener on {', '.join(exposed)}: listen on 127.0.0.1, or set"
                " TRUSTED_NETWORK=true if everyone who can reach it may write."
            )
        if not is_loopback(self.publish_host) and not self.authenticated:
            found.append(
                f"PUBLISH_HOST={self.publish_host} opens the ports to others, and authentication is off:"
                " set AUTH=on."
            )
        if self.authenticated and "*" in self.allowed_origins:
            found.append("CORS_ORIGINS=* with authentication on: name the origins.")
        tls = self.mqtt_url is not None and self.mqtt.tls
        if not tls and (self.mqtt_ca_file or self.mqtt_cert_file or self.mqtt_key_file):
            found.append(
                "MQTT_CA_FILE, MQTT_CERT_FILE and MQTT_KEY_FILE need an mqtts:// MQTT_URL."
            )
        if (self.mqtt_cert_file is None) != (self.mqtt_key_file is None):
            found.append("MQTT_CERT_FILE and MQTT_KEY_FILE go together: set both or none.")
        for name in ("mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                found.append(f"{name.upper()}: there is no file {path}.")
        return found


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. Raises ConfigurationError with every fault in one message."""
    faults: list[str] = []
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them.
    except ValidationError as error:
        invalid = error.errors(include_url=False, include_input=False)
        faults = [f"{_name(fault)}: {_sentence(fault['msg'])}." for fault in invalid]
        # With defaults in place of the invalid values, the contradictions of the others show too.
        defaults = {name: Settings.model_fields[name].default for name in map(_field, invalid)}
        settings = Settings(**{**overrides, **defaults})
    faults += settings.contradictions()
    if not faults:
        return settings
    raise ConfigurationError("The settings cannot be used. " + " ".join(faults))


def _sentence(message: str) -> str:
    own = message.removeprefix("Value error, ")
    return own if own != message else f"must be {plain(message)}"


def _field(fault: Any) -> str:
    return str(fault["loc"][0])


def _name(fault: Any) -> str:
    return ".".join(map(str, fault["loc"])).upper()
