"""Every curl command of the README and of docs/examples.md gives the response below it, byte for byte.

Only times of receipt, numbers given by the system and details differ. The stream is compared as well.

Among them are the commands in the documents of the two services that Voltwire replaces, as written there.
"""

import re
import subprocess
import time

import pytest

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import ROOT, Process

DOCUMENTS = ("README.md", "docs/examples.md")
EXAMPLE = re.compile(r"```bash\n(curl .*?)```\n```json\n(.*?)```", re.DOTALL)
STREAM = re.compile(r"The stream shows:\n\n```\n(.*?)```", re.DOTALL)
STEPS = re.compile(r"every second:\n\n```sh\n(.*?)```", re.DOTALL)
HEALTHY_S_MAX = 60
DIFFERS = re.compile(
    r'"(received_at|created_at|detail|id|rule_id|incident_id)":("(?:[^"\\]|\\.)*"|[0-9]+)'
)


def examples() -> list[tuple[str, str]]:
    """Those of the README first: the examples of the other document continue from there."""
    texts = [(ROOT / name).read_text() for name in DOCUMENTS]
    return [example for text in texts for example in EXAMPLE.findall(text)]


def without_what_differs(response: str) -> str:
    return DIFFERS.sub(r'"\1":"differs"', response.strip())


def pasted(command: str, up: Process) -> subprocess.CompletedProcess[str]:
    at_free_port = command.replace(":8000", f":{up.settings['HTTP_PORT']}")
    return subprocess.run(
        ["bash", "-c", at_free_port], capture_output=True, text=True, timeout=60, check=True
    )


@pytest.fixture(scope="module")
def up(embedded_up: Process) -> Process:
    """The health shown is that of a server which waits for its disk; that of the run does not."""
    return embedded_up


def until_every_check_is_ok(up: Process) -> None:
    deadline = time.monotonic() + HEALTHY_S_MAX
    while True:
        checks = plain_http.get(f"{base_url(up)}/health", timeout=30).json()["checks"]
        if "canary" in checks and all(check["status"] == "ok" for check in checks.values()):
            return  # The canary comes last.
        assert time.monotonic() < deadline, checks
        time.sleep(0.1)


def test_every_example_gives_the_answer_shown_and_the_stream_shows_the_alert(up: Process) -> None:
    assert len(examples()) == 13
    until_every_check_is_ok(up)
    with subprocess.Popen(
        ["curl", "-sN", f"{base_url(up)}/v1/alerts/stream?device_id=deviceA"],
        stdout=subprocess.PIPE,
        text=True,
    ) as stream:
        time.sleep(0.5)
        try:
            for command, response in examples():
                shown = pasted(command, up).stdout
                assert without_what_differs(shown) == without_what_differs(response), command
            assert stream.stdout is not None
            lines = [stream.stdout.readline().strip() for _ in range(2)]
        finally:
            stream.kill()
    expected = STREAM.search((ROOT / "docs/examples.md").read_text())
    assert expected is not None
    _, data = expected[1].strip().splitlines()
    assert lines[0].startswith("id: ")
    assert without_what_differs(lines[1]) == without_what_differs(data)


def test_the_first_steps_show_a_device_and_a_firing_alert(up: Process) -> None:
    steps = STEPS.search((ROOT / "README.md").read_text())
    assert steps is not None
    pasted(steps[1].replace("sleep 1\n", "sleep 0.11\n"), up)  # Ten posts in a second are allowed.
    newest = plain_http.get(f"{base_url(up)}/v1/devices/my-device/latest").json()
    assert newest["metrics"]["temp"]["value"] == 60
    incidents = plain_http.get(f"{base_url(up)}/v1/incidents?device_id=my-device").json()
    assert [(each["rule_name"], each["state"]) for each in incidents] == [("Too warm", "firing")]


def test_an_example_sent_again_is_a_duplicate(up: Process) -> None:
    command, _ = examples()[0]
    pasted(command, up)
    assert pasted(command, up).stdout == '{"status":"duplicate"}'
