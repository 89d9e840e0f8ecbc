"""The command that serves: what it prints, how it fails, and how it stops."""

import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from app import PROJECT_DIR
from app.postgres.migration import MIGRATION_LOCK
from lab.database import new_database
from lab.service import (
    AS_MODULE,
    PATIENCE,
    POLL,
    START_PATIENCE,
    embedded_in,
    environment,
    ran,
    running,
)
from tests.serving.connection import READ, Connection
from tests.support.data_folder import data_folder

any_number_of_workers = pytest.mark.parametrize("workers", ["1", "2"])


def taken(port: int) -> str:
    """Return the sentence for a port on which another program listens."""
    return (
        f"Another program listens on 127.0.0.1:{port}. "
        "Stop it, or set PORT to another port; PORT=0 takes any that is free."
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@any_number_of_workers
def test_the_banner_has_the_port_that_the_system_chose(postgresql: str, workers: str) -> None:
    with (
        new_database(postgresql) as url,
        running(PORT="0", WORKERS=workers, DATABASE_URL=url) as service,
    ):
        service.stop()
        assert service.port
        assert service.printed[:2] == [
            f"API         {service.url}/repos\n",
            f"Swagger UI  {service.url}/docs\n",
        ]


@any_number_of_workers
def test_a_taken_port_is_reported_before_anything_is_started(taken_port: int, workers: str) -> None:
    with data_folder() as data:
        ended = ran(*AS_MODULE, PORT=str(taken_port), WORKERS=workers, **embedded_in(data))
        assert not data.exists()
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{taken(taken_port)}\n")


@any_number_of_workers
def test_a_port_that_is_taken_during_the_start_is_reported_too(
    postgresql: str, workers: str
) -> None:
    with (
        new_database(postgresql) as url,
        psycopg.connect(make_conninfo(url), autocommit=True) as connection,
        socket.socket() as other,
    ):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        with subprocess.Popen(
            [sys.executable, *AS_MODULE],
            cwd=PROJECT_DIR,
            env=environment(PORT=str(port), WORKERS=workers, DATABASE_URL=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            other.listen()
            connection.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
            _, log = process.communicate(timeout=PATIENCE)
    assert (process.returncode, log.splitlines()[-1]) == (1, taken(port))
    assert "Traceback" not in log


def test_an_address_of_another_machine_is_reported() -> None:
    ended = ran(*AS_MODULE, HOST="192.0.2.1", PORT="8000")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert ended.stderr.startswith("Nothing can listen on 192.0.2.1:8000 (")
    assert "Set HOST to an address of this machine" in ended.stderr


@any_number_of_workers
def test_a_service_that_cannot_start_ends_with_a_status_that_says_so(
    postgresql: str, workers: str
) -> None:
    with new_database(postgresql) as url:
        pass
    ended = ran(*AS_MODULE, WORKERS=workers, DATABASE_URL=url)
    assert ended.returncode != 0
    assert "does not exist. Check DATABASE_URL." in ended.stderr


# Who call all the time while the service stops.
CALLERS = 4
# Seconds; a caller whom nobody serves would wait for the end of the process.
AN_INSTANT = 3


@any_number_of_workers
def test_every_connection_that_is_accepted_is_served_while_the_service_stops(
    postgresql: str, workers: str
) -> None:
    outcomes: Counter[str] = Counter()

    def call(port: int) -> str:
        try:
            connection = Connection(port)
        except ConnectionRefusedError:
            return "refused"
        called_at = time.monotonic()
        try:
            connection.send(READ + b"Connection: close\r\n\r\n")
            return str(connection.status())
        except ConnectionResetError:
            # The system accepted it in the instant in which the last socket was closed.
            assert time.monotonic() - called_at < AN_INSTANT
            return "reset"
        finally:
            connection.close()

    def call_until_refused(port: int) -> None:
        outcome = ""
        while outcome != "refused":
            outcome = call(port)
            outcomes[outcome] += 1

    with (
        new_database(postgresql) as url,
        running(WORKERS=workers, DATABASE_URL=url) as service,
        ThreadPoolExecutor() as callers,
    ):
        calls = [callers.submit(call_until_refused, service.port) for _ in range(CALLERS)]
        while outcomes["404"] < 20:
            time.sleep(POLL)
        service.process.send_signal(signal.SIGTERM)
        for done in calls:
            done.result(PATIENCE)
    assert outcomes.keys() <= {"404", "refused", "reset"}
    assert outcomes["reset"] <= CALLERS


@pytest.mark.parametrize(
    "redirections",
    ["<&- >&- 2>&-", ">/dev/full 2>&1"],
    ids=["no streams", "a full disk"],
)
def test_the_service_serves_although_nobody_can_read_what_it_prints(
    postgresql: str, free_port: int, redirections: str
) -> None:
    command = f"exec {sys.executable} -m app {redirections}"
    with (
        new_database(postgresql) as url,
        subprocess.Popen(
            ["sh", "-c", command],
            cwd=PROJECT_DIR,
            env=environment(PORT=str(free_port), DATABASE_URL=url),
        ) as process,
    ):
        try:
            assert answers(free_port, process)
        finally:
            process.terminate()


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the service, and return whether it answers."""
    deadline = time.monotonic() + START_PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            connection = Connection(port)
            connection.send(READ + b"\r\n")
            status = connection.status()
            connection.close()
            return status == 404
    return False


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
