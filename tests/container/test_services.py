"""The services serve, stop and come back under load, and lose nothing that they acknowledged."""

import signal
import time
from collections.abc import Iterator
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.github.process import GitHubProcess
from tests.container.stack import Failed, Stack, command
from tests.support.calls import CUT_OFF, NO_ANSWER
from tests.support.load import Load
from tests.support.promises import assert_readable, assert_stored
from tests.support.waiting import eventually, tell

# Seconds, less than the grace period of docker-compose.yml.
LONGEST_STOP = 5.0
# Seconds until a request fails; the service itself gives up earlier.
PATIENCE = 8.0


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the API as it is published."""
    with httpx.Client(base_url=stack.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


def track(client: httpx.Client, name: str) -> httpx.Response:
    return client.post("/repos", json={"owner": "container", "repo_name": name})


def assert_kept(load: Load, stack: Stack) -> None:
    tell(load)
    assert load.broken == []
    assert_stored(load.records, stack.rows())
    assert_readable(load.records, stack.url)


def test_a_repository_is_tracked_read_and_tracked_once(
    stack: Stack, client: httpx.Client, github: GitHubProcess
) -> None:
    name = f"hello-{uuid4().hex}"
    github.order(add={f"container/{name}": 42})
    created = track(client, name)
    assert created.status_code == 201
    assert created.json()["stars"] == 42
    assert client.get(created.headers["location"]).json() == created.json()
    assert track(client, name.upper()).status_code == 409
    assert github.report()["violations"] == []


def test_a_stop_under_load_is_quick_and_loses_nothing(stack: Stack, client: httpx.Client) -> None:
    # What is sent to the address of a container that has ended is lost without an answer.
    lost = [CUT_OFF, NO_ANSWER]
    with Load([stack.url], stack.github_url, tolerated=lost) as load:
        began = time.monotonic()
        stack.compose("stop", "api")
        took = time.monotonic() - began
        state = stack.inspect("api")["State"]
        stack.compose("start", "api")
        eventually(load.served(10), lambda: "it does not serve again")
    tell(f"stopped in {took:.1f} s with status {state['ExitCode']}")
    assert took < LONGEST_STOP
    assert state["ExitCode"] in (0, 128 + signal.SIGTERM)
    assert_kept(load, stack)


def test_a_killed_database_costs_503_and_loses_nothing(stack: Stack, client: httpx.Client) -> None:
    with Load([stack.url], stack.github_url) as load:
        command("docker", "kill", "--signal=KILL", stack.inspect("db")["Id"])
        eventually(load.refused(1), lambda: f"callers were not refused: {load}")
        with pytest.raises(Failed, match="status 1"):
            stack.inside("api", "python", "scripts/healthcheck.py")
        began = time.monotonic()
        stack.compose("start", "db")
        eventually(load.served(1), lambda: f"it does not serve again: {load}")
        took = time.monotonic() - began
        eventually(load.served(10), lambda: f"it does not serve again: {load}")
    tell(f"writes again {took:.1f} s after the start of the database")
    assert_kept(load, stack)


def test_new_containers_on_the_same_volume_have_every_record(stack: Stack) -> None:
    with Load([stack.url], stack.github_url) as load:
        eventually(load.served(10))
    began = time.monotonic()
    stack.compose("down")
    stack.up()
    tell(f"down and up again in {time.monotonic() - began:.1f} s")
    assert_kept(load, stack)


def test_no_log_and_no_answer_has_a_secret_also_when_github_refuses_the_token(
    stack: Stack, client: httpx.Client, github: GitHubProcess
) -> None:
    assert track(client, f"accepted-{uuid4().hex}").status_code == 201
    github.order(token="another")  # noqa: S106 - not the one that the service has
    try:
        refused = track(client, f"refused-{uuid4().hex}")
    finally:
        github.order(token=stack.token)
    assert refused.status_code == 502
    log = stack.logs()
    assert log.count("github call") >= 2
    assert [s for s in (stack.token, stack.password) if s in log + refused.text] == []
