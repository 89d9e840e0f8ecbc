"""The command line: where it says that the service is, and what it says where that cannot be."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from app import PROJECT_DIR
from app.postgres.migration import MIGRATION_LOCK
from lab.database import new_database
from lab.service import AS_MODULE, PATIENCE, embedded_in, environment, ran, running
from tests.support.data_folder import data_folder

any_number_of_workers = pytest.mark.parametrize("workers", ["1", "2"])


def taken(port: int) -> str:
    """Return what the command line says of a port that somebody else has."""
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
def test_the_banner_has_the_real_address_of_any_free_port(postgresql: str, workers: str) -> None:
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
def test_a_port_that_is_taken_is_told_in_a_sentence_before_anything_is_started(
    taken_port: int, workers: str
) -> None:
    with data_folder() as data:
        ended = ran(*AS_MODULE, PORT=str(taken_port), WORKERS=workers, **embedded_in(data))
        assert not data.exists()
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{taken(taken_port)}\n")


def test_a_port_that_is_taken_meanwhile_is_told_in_the_same_sentence(postgresql: str) -> None:
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
            env=environment(PORT=str(port), DATABASE_URL=url),
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


def test_an_address_of_another_machine_is_told_in_a_sentence() -> None:
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
