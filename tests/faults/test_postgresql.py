"""PostgreSQL stopped, frozen, killed and full, while sixteen callers use the real process."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.deadlines import SHUTDOWN
from lab.database import url_of
from lab.github.server import GitHub
from lab.processes import frozen, is_alive
from lab.service import Service, embedded_in, running
from tests.faults.postgresql import (
    CONNECTIONS,
    Embedded,
    OwnPostgreSQL,
    connections,
    own_postgresql,
    until_writable,
)
from tests.support.calls import CUT_OFF
from tests.support.data_folder import data_folder
from tests.support.load import Load
from tests.support.promises import assert_nothing_unforeseen, assert_promises_held
from tests.support.waiting import tell, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
    pytest.mark.timeout(180),
]

DISK = 320  # MB.
ALLOWED = 5  # Connections; the service wants more.
# Requests of each kind after which a service counts as recovered.
RECOVERED = 20


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgreSQL]:
    """A PostgreSQL that each test disturbs and leaves running."""
    with own_postgresql() as server:
        yield server


@pytest.fixture
def database(server: OwnPostgreSQL) -> str:
    """A database of the test's own, which stays until the server goes."""
    name = f"tracker_test_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url_of({**conninfo_to_dict(server.url), "dbname": name})


@pytest.fixture
def service(database: str, github: GitHub) -> Iterator[Service]:
    with running(DATABASE_URL=database, GITHUB_API_URL=github.url) as service:
        yield service
        assert_nothing_unforeseen(service)


async def test_a_restart_costs_some_503_and_loses_nothing(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    with Load([service.url], github.url) as load:
        await server.stop()
        server.start()
        ready = await until_writable(database)
        await until(load.served(RECOVERED), "it did not recover")
    assert_promises_held(load, database, ready=ready)


async def test_a_time_without_a_server_costs_503_and_loses_nothing(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    with Load([service.url], github.url) as load:
        await server.stop()
        await until(load.refused(20), "callers were not refused")
        server.start()
        ready = await until_writable(database)
        await until(load.served(RECOVERED), "it did not recover")
    assert_promises_held(load, database, ready=ready)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_frozen_server_hangs_nobody_and_loses_nothing(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub, times: int
) -> None:
    """Connections stay open, and the kernel accepts new ones, but nobody answers.

    When each caller was refused once, the service has not yet given up all of its connections;
    the second refusal is on new ones.
    """
    with Load([service.url], github.url) as load:
        with frozen(server.pid):
            await until(load.refused(times), "callers were not refused")
        ready = await until_writable(database)
        await until(load.served(RECOVERED), "it did not recover")
        left = connections(database)
    assert_promises_held(load, database, ready=ready)
    tell(f"{left} connections afterwards")
    assert left <= CONNECTIONS


async def test_a_stop_is_not_held_up_by_a_frozen_server(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    with Load([service.url], github.url, tolerated=[CUT_OFF]) as load, frozen(server.pid):
        await until(load.refused(1), "callers were not refused")
        service.process.terminate()
        signalled = time.monotonic()
        await until(lambda: service.process.poll() is not None, "it did not stop")
        took = time.monotonic() - signalled
    tell(f"stopped {took:.2f} s after SIGTERM")
    assert took < SHUTDOWN


async def test_a_client_that_takes_all_connections_shuts_nobody_out_for_good(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    with Load([service.url], github.url) as load:
        with ExitStack() as stack:
            taken = await asyncio.to_thread(take_all_connections, stack, server, database)
            await until(load.refused(1), "callers were not refused")
            tell(f"somebody else had {taken} connections")
        ready = await until_writable(database)
        await until(load.served(RECOVERED), "it did not recover")
    assert_promises_held(load, database, ready=ready)
    assert any(answer.is_database_unavailable for answer in load.answers)


def take_all_connections(stack: ExitStack, server: OwnPostgreSQL, database: str) -> int:
    """Connect until no connection is left for anybody, those of the service included."""
    name = conninfo_to_dict(database)["dbname"]
    taken: list[psycopg.Connection] = []
    while True:
        try:
            while True:
                taken.append(stack.enter_context(psycopg.connect(server.url, autocommit=True)))
        except psycopg.OperationalError:
            sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            (ended,) = taken[0].execute(sql, [name]).fetchone() or (0,)
            if not ended:
                return len(taken)
            time.sleep(0.01)


async def test_too_few_connections_for_the_service_cost_503_and_lose_nothing(
    server: OwnPostgreSQL, database: str, github: GitHub
) -> None:
    parameters = conninfo_to_dict(database)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS few")
        connection.execute(f"CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT {ALLOWED}")
        connection.execute(f'ALTER DATABASE "{parameters["dbname"]}" OWNER TO few')
    few = url_of({**parameters, "user": "few", "password": "few"})
    with running(DATABASE_URL=few, GITHUB_API_URL=github.url) as service:
        with Load([service.url], github.url) as load:
            await until(load.served(RECOVERED), "reads and writes did not go on")
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("ALTER ROLE few CONNECTION LIMIT -1")
            ready = time.monotonic()
            await until(load.served(RECOVERED), "it did not recover")
        assert_promises_held(load, database, ready=ready)
        assert_nothing_unforeseen(service)


async def test_a_killed_embedded_server_comes_back_and_has_lost_nothing(github: GitHub) -> None:
    with (
        data_folder() as folder,
        running(**embedded_in(folder), GITHUB_API_URL=github.url) as service,
    ):
        embedded = Embedded(folder)
        with Load([service.url], github.url) as load:
            for _ in range(2):
                pid = embedded.published()["postgres"]
                os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                await until(lambda: not is_alive(pid), "it was not killed")  # noqa: B023
                ready = await until_writable(embedded.url)
                tell(f"PostgreSQL was ready {ready - killed:.2f} s after it was killed")
                await until(load.served(RECOVERED), "it did not recover")
        assert_promises_held(load, embedded.url, ready=ready)
        assert_nothing_unforeseen(service)


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of the test's own."""
    with data_folder() as folder:
        folder.mkdir(mode=0o711)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=711", "tmpfs", str(folder)]
        mounted = None
        with suppress(FileNotFoundError):
            mounted = subprocess.run(mount, capture_output=True, check=False)
        if mounted is None or mounted.returncode != 0:
            pytest.skip("mounting a file system is not allowed here, so no disk can be filled")
        try:
            yield folder / "data"
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte of the disk free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    return ballast


async def test_a_full_disk_costs_503_and_loses_nothing(github: GitHub) -> None:
    """At first tables cannot grow; then the write-ahead log cannot, and PostgreSQL ends."""
    with (
        small_disk() as folder,
        running(**embedded_in(folder), GITHUB_API_URL=github.url) as service,
    ):
        embedded = Embedded(folder)
        with Load([service.url], github.url) as load:
            ballast = await asyncio.to_thread(fill, folder.parent)
            assert shutil.disk_usage(folder).free < 4096
            await until(lambda: load.answers[-1].is_database_unavailable, "nobody noticed")
            tell(f"tables could not grow: {load}")
            with suppress(psycopg.Error), psycopg.connect(embedded.url) as connection:
                connection.execute("SELECT pg_switch_wal()")
            await until(load.refused(2), "callers were not refused")
            tell(f"there was no room for the log: {load}")
            ballast.unlink()
            freed = time.monotonic()
            ready = await until_writable(embedded.url)
            tell(f"PostgreSQL was ready {ready - freed:.2f} s after there was room")
            await until(load.served(RECOVERED), "it did not recover")
        assert_promises_held(load, embedded.url, ready=ready)
        assert_nothing_unforeseen(service)
