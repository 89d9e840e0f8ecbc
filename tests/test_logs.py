"""The log: what the service writes to stderr, and what happens if it cannot be written."""

import fcntl
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import httpx2 as httpx
import psycopg
import pytest

from app import PROJECT_DIR
from app.postgres.url import connection_parameters
from lab.database import new_database
from lab.github.answers import bad_credentials, hang_up
from lab.github.server import GitHub
from lab.service import AS_MODULE, PATIENCE, Service, environment, ran, running

TOKEN = "ghp_n0body-Must-See-This"  # noqa: S105
NOWHERE = "/repos/00000000-0000-0000-0000-000000000000"
RECORD = "/repos/{repo_id}"
REFERENCE = {"owner": "fastapi", "repo_name": "fastapi"}

# The requests that are sent, by id: method, route and status of the log line of each.
REQUESTS = {
    "track": ("POST", "/repos", 201),
    "track-again": ("POST", "/repos", 409),
    "track-badly": ("POST", "/repos", 422),
    "read": ("GET", RECORD, 200),
    "read-unchanged": ("GET", RECORD, 304),
    "read-nothing": ("GET", RECORD, 404),
    "refresh": ("PUT", RECORD, 200),
    "refresh-refused": ("PUT", RECORD, 502),
    "refresh-fails": ("PUT", RECORD, 502),
    "untrack": ("DELETE", RECORD, 204),
    "nowhere": ("GET", None, 404),
    "not-allowed": ("PATCH", RECORD, 405),
    "foreign": ("GET", None, 400),
    "documentation": ("GET", None, 200),
    "unforeseen": ("GET", RECORD, 500),
}
# The calls to GitHub that each of them makes: path and status of the log line.
CALLS: dict[str, list[tuple[str, int | str]]] = {
    "track": [("/repos/fastapi/fastapi", 200)],
    "refresh": [("/repositories/1", 304)],
    "refresh-refused": [("/repositories/1", 401)],
    "refresh-fails": [("/repositories/1", "failed"), ("/repositories/1", "failed")],
}


@dataclass
class Log:
    """What a service wrote, and the request ids that it answered with."""

    text: str
    ids: list[str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of a log in JSON."""
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, event: str, request_id: str) -> list[dict[str, Any]]:
        """Return the lines of an event for one request."""
        return [
            line
            for line in self.lines
            if line["event"] == event and line.get("request_id") == request_id
        ]


def send_requests(service: Service, github: GitHub, url: str) -> list[str]:
    """Send each of the requests, and a few more; return the request ids of the answers."""
    with httpx.Client(base_url=service.url) as client:
        answered = []

        def send(request_id: str, path: str, **more: Any) -> httpx.Response:
            method = REQUESTS[request_id][0]
            headers = {"X-Request-ID": request_id, **more.pop("headers", {})}
            response = client.request(method, path, headers=headers, **more)
            answered.append(response.headers["x-request-id"])
            return response

        github.add("fastapi", "fastapi", id=1)
        path = send("track", "/repos", json=REFERENCE).headers["location"]
        send("track-again", "/repos", json=REFERENCE)
        send("track-badly", "/repos", json={})
        etag = send("read", path).headers["etag"]
        send("read-unchanged", path, headers={"If-None-Match": etag})
        send("read-nothing", NOWHERE)
        send("refresh", path)
        github.script("/repositories/1", bad_credentials(), hang_up(), hang_up())
        send("refresh-refused", path)
        send("refresh-fails", path)
        send("untrack", path)
        send("nowhere", "/nowhere?token=" + TOKEN)
        send("not-allowed", path)
        send("foreign", path, headers={"Host": "evil.test"})
        send("documentation", "/docs")
        abort_a_request(service)
        answered.append(client.get("/nowhere").headers["x-request-id"])
        with psycopg.connect(**connection_parameters(url)) as connection:
            connection.execute("ALTER TABLE repositories RENAME COLUMN stars TO elsewhere")
        send("unforeseen", path)
    return answered


def abort_a_request(service: Service) -> None:
    """Announce a body, send half of it, and reset the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(
            b"POST /repos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b'{"owner": "fas')
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def log_of_a_run(postgresql: str, **settings: str) -> Log:
    with GitHub.in_thread() as github, new_database(postgresql) as url:
        github.token = TOKEN
        settings |= {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": TOKEN, "DATABASE_URL": url}
        with running(**settings) as service:
            ids = send_requests(service, github, url)
            service.stop()
        return Log("".join(service.log), ids)


@pytest.fixture(scope="module")
def log(postgresql: str) -> Log:
    """The log in JSON, of every request."""
    return log_of_a_run(postgresql, LOG_LEVEL="debug")


@pytest.fixture(scope="module")
def console(postgresql: str) -> str:
    """The log for people, of every request."""
    return log_of_a_run(postgresql, LOG_FORMAT="console", LOG_LEVEL="debug").text


@pytest.fixture(scope="module")
def password(postgresql: str) -> str:
    """The password of the database."""
    found = connection_parameters(postgresql).get("password")
    if not found:
        pytest.skip("this PostgreSQL asks for no password")
    return str(found)


def test_every_line_is_an_object_with_its_event_its_level_and_its_time(log: Log) -> None:
    for line in log.lines:
        assert line["event"]
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize("request_id", REQUESTS)
def test_a_request_leaves_one_line_with_method_route_and_status(log: Log, request_id: str) -> None:
    lines = log.of("request", request_id)
    found = [(line["method"], line["route"], line["status"]) for line in lines]
    assert found == [REQUESTS[request_id]]


@pytest.mark.parametrize("request_id", REQUESTS)
def test_the_line_of_a_request_says_how_long_it_took(log: Log, request_id: str) -> None:
    (line,) = log.of("request", request_id)
    assert 0 < line["ms"] < 10_000


def test_a_request_without_an_id_is_logged_under_the_one_that_it_was_given(log: Log) -> None:
    (made,) = set(log.ids) - set(REQUESTS)
    assert len(log.of("request", made)) == 1


@pytest.mark.parametrize("request_id", REQUESTS)
def test_every_call_to_github_leaves_a_line_under_the_id_of_its_request(
    log: Log, request_id: str
) -> None:
    lines = log.of("github call", request_id)
    assert [(line["path"], line["status"]) for line in lines] == CALLS.get(request_id, [])


def test_the_line_of_a_call_to_github_says_how_long_it_took(log: Log) -> None:
    (line,) = log.of("github call", "track")
    assert 0 < line["ms"] < 10_000


def test_a_record_that_is_made_is_logged(log: Log) -> None:
    (line,) = log.of("repository tracked", "track")
    assert line["repository"] == "fastapi/fastapi"


def test_a_record_that_is_refreshed_is_logged(log: Log) -> None:
    assert len(log.of("repository refreshed", "refresh")) == 1


def test_a_record_that_is_deleted_is_logged(log: Log) -> None:
    assert len(log.of("repository untracked", "untrack")) == 1


@pytest.mark.parametrize("request_id", ["refresh-refused", "refresh-fails"])
def test_a_failure_of_github_is_a_warning(log: Log, request_id: str) -> None:
    levels = [line["level"] for line in log.lines if line.get("request_id") == request_id]
    assert "warning" in levels


def test_an_unforeseen_error_is_logged_with_its_traceback(log: Log) -> None:
    (line,) = log.of("unforeseen error", "unforeseen")
    assert line["level"] == "error"
    assert "UndefinedColumn" in line["exception"]


def test_nothing_else_is_an_error(log: Log) -> None:
    """A client that aborts a request is not an error of the service."""
    errors = [line for line in log.lines if line["level"] in {"error", "critical"}]
    assert [line.get("request_id") for line in errors] == ["unforeseen"]


def test_the_log_says_where_the_service_listens(log: Log) -> None:
    assert any("running on http://127.0.0.1:" in line["event"] for line in log.lines)


def test_the_token_is_nowhere_in_the_log(log: Log) -> None:
    assert TOKEN not in log.text


def test_the_password_of_the_database_is_nowhere_in_the_log(log: Log, password: str) -> None:
    assert password not in log.text


def test_the_log_for_people_has_a_line_of_each_request(console: str) -> None:
    for request_id, (method, _, status) in REQUESTS.items():
        (line,) = (
            line
            for line in console.splitlines()
            if re.search(rf"\brequest\b.*\brequest_id={request_id}(\s|$)", line)
            and "github" not in line
        )
        assert f"method={method}" in line
        assert f"status={status}" in line


def test_the_log_for_people_has_no_colours_in_a_file(console: str) -> None:
    assert "\x1b" not in console


def test_the_log_for_people_shows_the_traceback_of_an_unforeseen_error(console: str) -> None:
    assert "Traceback (most recent call last)" in console
    assert "UndefinedColumn" in console


def test_the_log_for_people_shows_no_values_of_variables(console: str) -> None:
    """Some of them are secrets."""
    assert "locals" not in console


def test_the_token_is_nowhere_in_the_log_for_people(console: str) -> None:
    assert TOKEN not in console


def test_the_password_of_the_database_is_nowhere_in_the_log_for_people(
    console: str, password: str
) -> None:
    assert password not in console


def written(level: str, log_format: str, *statements: str) -> list[str]:
    """Return the lines that a program writes to stderr with this log."""
    program = "import logging, structlog; from app.logs import configure_logging, request_id; "
    program += f"configure_logging({level!r}, {log_format!r}); log = structlog.get_logger(); "
    ended = ran("-c", program + "; ".join(statements))
    assert ended.returncode == 0
    return ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_lines_below_the_level_are_left_out(level: str, events: list[str]) -> None:
    statements = ["log.debug('d')", "log.info('i')", "log.warning('w')", "log.error('e')"]
    assert [json.loads(line)["event"] for line in written(level, "json", *statements)] == events


def test_what_libraries_log_has_the_same_form() -> None:
    statements = ["request_id.set('mine')", "logging.getLogger('library').warning('%s left', 1)"]
    (line,) = (json.loads(line) for line in written("info", "json", *statements))
    assert (line["event"], line["level"], line["request_id"]) == ("1 left", "warning", "mine")


def test_what_libraries_say_below_a_warning_is_left_out() -> None:
    assert written("debug", "json", "logging.getLogger('httpx2').info('GET /')") == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_break_in_a_value_does_not_make_a_line(log_format: str) -> None:
    assert len(written("info", log_format, r"log.info('event', path='a\nb')")) == 1


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("value", ["object()", r"'\udcff'", "{2}"])
def test_every_value_can_be_logged(log_format: str, value: str) -> None:
    assert len(written("info", log_format, f"log.info('event', value={value})")) == 1


# A log that cannot be written


def closed_pipe() -> int:
    """Return the end of a pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@contextmanager
def logging_to(stderr: int, postgresql: str, *shell: str) -> Iterator[httpx.Client]:
    """Run the service with this stderr, perhaps below a shell, and yield a client for it."""
    with new_database(postgresql) as url, GitHub.in_thread() as github:
        github.add("fastapi", "fastapi")
        settings = {"DATABASE_URL": url, "GITHUB_API_URL": github.url, "LOG_LEVEL": "debug"}
        with subprocess.Popen(
            [*shell, sys.executable, *AS_MODULE],
            cwd=PROJECT_DIR,
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split()[-1].removesuffix("/repos")
                transport = httpx.HTTPTransport(retries=10)  # Until the service listens.
                with httpx.Client(
                    base_url=address, transport=transport, timeout=PATIENCE
                ) as client:
                    yield client
            finally:
                process.terminate()


def serve_a_record(client: httpx.Client) -> None:
    """Track, read, refresh and untrack a repository; the last answer tells what was stored."""
    path = client.post("/repos", json=REFERENCE).headers["location"]
    statuses = [client.request(method, path).status_code for method in ("GET", "PUT", "DELETE")]
    assert statuses == [200, 200, 204]
    assert client.get(path).status_code == 404


def test_the_service_works_when_the_reader_of_its_log_has_ended(postgresql: str) -> None:
    writer = closed_pipe()
    with logging_to(writer, postgresql) as client:
        serve_a_record(client)
    os.close(writer)


def test_the_service_works_when_the_disk_of_its_log_is_full(postgresql: str) -> None:
    with Path("/dev/full").open("wb") as full, logging_to(full.fileno(), postgresql) as client:
        serve_a_record(client)


def test_the_service_works_when_the_file_of_its_log_may_not_grow(
    postgresql: str, tmp_path: Path
) -> None:
    limited = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh")
    with (
        (tmp_path / "log").open("wb") as file,
        logging_to(file.fileno(), postgresql, *limited) as client,
    ):
        for _ in range(3):
            serve_a_record(client)
    assert (tmp_path / "log").stat().st_size in {512, 1024}


def test_the_service_works_without_a_log(postgresql: str) -> None:
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    with logging_to(subprocess.DEVNULL, postgresql, *closed) as client:
        serve_a_record(client)


def test_a_reader_that_stops_delays_no_answer_and_then_reads_how_many_lines_it_missed(
    postgresql: str,
) -> None:
    reader, writer = os.pipe()
    room = 2 * select.PIPE_BUF
    os.write(writer, b"\n" * (fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) - room))
    with os.fdopen(reader) as log, logging_to(writer, postgresql) as client:
        for _ in range(3):
            serve_a_record(client)
        read_until_the_log_says_what_was_dropped(log, client)
    os.close(writer)


def read_until_the_log_says_what_was_dropped(log: IO[str], client: httpx.Client) -> None:
    """Read the log, and let the service write more of it."""
    for line in log:
        if line.strip():
            client.get("/nowhere")
            event = json.loads(line)
            if event["event"] == "log lines were dropped":
                assert event["count"] > 0
                return
