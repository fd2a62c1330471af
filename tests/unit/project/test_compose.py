"""The container files, tested without starting a container."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.errors import ConfigurationError
from runtime.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
SCRIPTS = Path(sysconfig.get_path("scripts"))
COMPOSE_FILE, DOCKERFILE = ROOT / "docker-compose.yml", ROOT / "Dockerfile"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("migrate", "ingest", "api", "schedule")
OURS = (*ROLES, "broker-files")
LONG_RUNNING = sorted(SERVICES.keys() - {"migrate"})
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
EXAMPLE = re.compile(r"^# (?P<meaning>.+)\n#(?P<name>[A-Z_]+)=(?P<value>.*)$", re.MULTILINE)
FIXED_BY_COMPOSE = {
    "DATABASE_URL", "OWNER_DATABASE_URL", "DATA_DIR", "HTTP_HOST", "MQTT_HOST", "STATUS_HOST", "STATUS_PORT",
}  # fmt: skip
PORTS = {"HTTP_PORT", "MQTT_PORT"}
OF_COMMANDS = {"API_KEY"}  # No role needs this secret, so none has it.
OTHER_DEFAULT_IN_COMPOSE = {
    "AUTH": "off", "TRUSTED_NETWORK": "true", "MQTT_URL": "mqtt://mosquitto:1883",
}  # fmt: skip

MQTT_SETTINGS = ("MQTT_URL", "MQTT_CA_FILE", "MQTT_CERT_FILE", "MQTT_KEY_FILE")


def run(*command: str | Path) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def example_file() -> dict[str, str]:
    found = EXAMPLE.finditer((ROOT / ".env.example").read_text())
    return {match["name"]: match["value"] for match in found}


def compose_variables() -> dict[str, tuple[str, str]]:
    """Each variable that may stand in .env: (- or ?, its default or the refusal)."""
    found = sorted(VARIABLE.findall(COMPOSE_FILE.read_text()))  # A refusal comes after a default.
    return {name: (kind, text) for name, kind, text in found}


def setting_names() -> list[str]:
    return [name.upper() for name in Settings.model_fields]


def dockerfile(instruction: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction} +(.+)$", text, re.MULTILINE)


def test_the_compose_file_follows_the_compose_specification() -> None:
    run(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(SCRIPTS / "hadolint", DOCKERFILE)


def test_images_are_of_the_named_major_versions() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert images == {"postgres:18", "eclipse-mosquitto:2", "voltwire:local"}
    assert {source.split()[0] for source in dockerfile("FROM")} == {"python:3.13-slim-trixie"}


def test_one_service_builds_our_image_because_several_at_once_collide() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}


def test_a_role_is_one_word_after_the_entry_point_of_the_image() -> None:
    assert [json.loads(entry) for entry in dockerfile("ENTRYPOINT")] == [["voltwire"]]
    assert [SERVICES[role]["command"] for role in ROLES] == [[role] for role in ROLES]
    assert SERVICES["broker-files"]["command"][0] == "broker-files"
    assert not any("entrypoint" in service for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_root_or_can_become_it_or_change_its_image(name: str) -> None:
    service = SERVICES[name]
    user = service.get("user", dockerfile("USER")[-1])
    assert str(user).partition(":")[0] not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_only_unless_publish_host_says_otherwise(
    name: str,
) -> None:
    where = "127.0.0.1:" if name == "postgres" else "${PUBLISH_HOST:-127.0.0.1}:"
    assert all(port.startswith(where) for port in SERVICES[name].get("ports", ()))
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("auth", ["off", "on"])
def test_ports_are_open_to_others_only_with_authentication(
    auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker starts after `broker-files`, so a refusal there keeps its port closed."""
    given = {"AUTH": auth, "PUBLISH_HOST": "0.0.0.0"}
    for name, value in SERVICES["broker-files"]["environment"].items():
        monkeypatch.setenv(name, VARIABLE.sub(lambda found: given.get(found[1], found[3]), value))
    if auth == "on":
        assert load_settings().authenticated
    else:
        with pytest.raises(ConfigurationError, match=r"PUBLISH_HOST=0\.0\.0\.0 .* set AUTH=on"):
            load_settings()


def test_what_users_connect_to_is_published_under_its_usual_port() -> None:
    defaults = VARIABLE.sub(
        r"\3", "\n".join(p for s in SERVICES.values() for p in s.get("ports", ()))
    )
    assert sorted(defaults.split()) == [
        "127.0.0.1:1883:1883",
        "127.0.0.1:5432:5432",
        "127.0.0.1:8000:8000",
        "127.0.0.1:8883:8883",
    ]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_is_watched_started_again_and_given_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= service[
        "healthcheck"
    ].keys()
    assert service["restart"] == "unless-stopped"
    assert int(service["stop_grace_period"].removesuffix("s")) > 10


@pytest.mark.parametrize("name", SERVICES)
def test_logs_have_a_limit(name: str) -> None:
    assert {"max-size", "max-file"} == SERVICES[name]["logging"]["options"].keys()


def test_roles_start_after_the_migration_and_that_after_the_database() -> None:
    def needs(name: str) -> dict[str, str]:
        return {other: each["condition"] for other, each in SERVICES[name]["depends_on"].items()}

    migrated = {"migrate": "service_completed_successfully"}
    assert needs("migrate") == {"postgres": "service_healthy"}
    assert needs("api") == needs("broker-files") == migrated
    assert needs("mosquitto") == {"broker-files": "service_healthy"}
    assert needs("ingest") == needs("schedule") == {**migrated, "mosquitto": "service_healthy"}


def test_data_outlives_the_containers_where_the_images_keep_it() -> None:
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "mosquitto:/mosquitto/data" in SERVICES["mosquitto"]["volumes"]
    assert (
        "./mosquitto.conf:/mosquitto/config/mosquitto.conf:ro" in SERVICES["mosquitto"]["volumes"]
    )
    named = {"postgres", "mosquitto", "broker-files", "certificates", "voltwire"}
    assert COMPOSE["volumes"].keys() == named


def test_the_broker_reads_what_another_service_writes_and_can_write_none_of_it() -> None:
    """The image has both folders with their owners, which a new volume takes over."""
    folder, password = "/mosquitto/files", "voltwire:/var/lib/voltwire"
    assert f"broker-files:{folder}" in SERVICES["broker-files"]["volumes"]
    assert f"broker-files:{folder}:ro" in SERVICES["mosquitto"]["volumes"]
    assert all(
        password in SERVICES[name]["volumes"] for name in ("broker-files", "ingest", "schedule")
    )
    text = DOCKERFILE.read_text()
    assert f"--mode=0750 --owner=10001 --group=1883 {folder}" in text
    assert "--mode=0700 --owner=10001 --group=10001 /var/lib/voltwire" in text
    assert SERVICES["broker-files"]["user"] == "10001:1883"
    assert "--group=1883" in SERVICES["broker-files"]["command"]


def test_without_a_password_the_refusal_names_the_line_to_add() -> None:
    refusals = {name: text for name, (kind, text) in compose_variables().items() if kind == "?"}
    assert refusals.keys() == {"POSTGRES_PASSWORD"}
    assert "add the line POSTGRES_PASSWORD=" in refusals["POSTGRES_PASSWORD"]
    assert " .env " in refusals["POSTGRES_PASSWORD"]


def test_the_database_is_never_that_of_a_database_url_in_the_environment() -> None:
    """Such a line is for programs outside Docker; the compose file builds its own URL."""
    assert "DATABASE_URL" not in compose_variables()
    assert not any("env_file" in service for service in SERVICES.values())
    for role in ROLES:
        assert SERVICES[role]["environment"]["DATABASE_URL"] == "postgresql://postgres:5432"


def test_a_broker_in_the_environment_is_used_in_place_of_mosquitto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = {name: SERVICES["ingest"]["environment"][name] for name in MQTT_SETTINGS}
    assert written["MQTT_URL"] == "${MQTT_URL:-mqtt://mosquitto:1883}"
    given = {"MQTT_URL": "mqtts://broker.example:8883", "MQTT_CA_FILE": "/nowhere/ca.pem"}
    for name, value in written.items():
        monkeypatch.setenv(name, VARIABLE.sub(lambda found: given.get(found[1], found[3]), value))
    with pytest.raises(ConfigurationError, match=r"MQTT_CA_FILE: there is no file /nowhere/ca.pem"):
        load_settings()
    monkeypatch.setenv("MQTT_CA_FILE", "")
    assert str(load_settings().mqtt) == given["MQTT_URL"]


def test_the_settings_of_the_roles_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, VARIABLE.sub(r"\3", value))
    settings = load_settings()
    assert settings.http_host == "0.0.0.0"
    assert not settings.authenticated


def test_every_setting_reaches_the_roles_with_its_own_default() -> None:
    environment = SERVICES["api"]["environment"]
    for name, value in example_file().items():
        if name in set(setting_names()) - FIXED_BY_COMPOSE - PORTS - OF_COMMANDS:
            default = OTHER_DEFAULT_IN_COMPOSE.get(name, value)
            assert environment[name] == f"${{{name}:-{default}}}"


def test_the_example_file_lists_exactly_the_settings_in_their_order() -> None:
    assert [name for name in example_file() if name in setting_names()] == setting_names()
    assert example_file().keys() == {*setting_names(), *compose_variables()}


def test_every_line_of_the_example_file_is_a_comment_a_setting_or_empty() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    settings = [line for line in lines if re.match(r"#[A-Z_]+=", line)]
    assert len(settings) == len(example_file())
    assert all(line in settings or line == "" or line.startswith("# ") for line in lines)


def test_the_example_file_shows_the_defaults(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in example_file().items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert Settings(_env_file=tmp_path / ".env") == Settings()
    for name, (kind, text) in compose_variables().items():
        if kind == "-" and name not in {*OTHER_DEFAULT_IN_COMPOSE, "POSTGRES_PASSWORD"}:
            assert example_file()[name] == text


def test_the_image_is_built_from_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = {source.split()[0] for source in dockerfile("COPY") if "--from" not in source}
    copied |= {"README.md", "LICENSE"}  # Beside pyproject.toml, which names them.
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert first == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_holds_no_settings() -> None:
    names = {pair.partition("=")[0] for line in dockerfile("ENV") for pair in line.split()}
    assert names == {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
