"""PostgreSQL at its worst, while sixteen callers write and read by way of the real process."""

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
from tests.faults.load import loaded
from tests.faults.postgresql import (
    CONNECTIONS,
    Embedded,
    OwnPostgreSQL,
    connections,
    own_postgresql,
    until_writable,
)
from tests.faults.processes import frozen, is_alive
from tests.faults.promises import RECOVERY, assert_nothing_unforeseen, assert_promises_held
from tests.faults.support import tell, until
from tests.support.data_folder import data_folder
from tests.support.database import url_of
from tests.support.github import GitHub
from tests.support.service import Service, embedded_in, running

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
    pytest.mark.timeout(180),
]

AWAY = 10.0  # Seconds.
# Seconds in which requests are given up, but not yet the connections that they used.
BRIEFLY = 6.0
DISK = 320  # MB.
ALLOWED = 5  # Connections, where there are too few of them.


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgreSQL]:
    """A PostgreSQL that each test harms and leaves well."""
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
    async with loaded(service.url, github) as load:
        await server.stop()
        server.start()
        ready = await until_writable(database)
        await asyncio.sleep(RECOVERY)
        await load.do(20)
    assert_promises_held(load, database, ready=ready)


async def test_ten_seconds_without_a_server_cost_503_and_lose_nothing(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    async with loaded(service.url, github) as load:
        await server.stop()
        await asyncio.sleep(AWAY)
        server.start()
        ready = await until_writable(database)
        await asyncio.sleep(RECOVERY)
        await load.do(20)
    assert_promises_held(load, database, ready=ready)


@pytest.mark.parametrize("seconds", [AWAY, BRIEFLY])
async def test_a_frozen_server_hangs_nobody_and_loses_nothing(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub, seconds: float
) -> None:
    """Connections stay open and new ones are taken by the kernel, but nobody answers."""
    async with loaded(service.url, github) as load:
        with frozen(server.pid):
            await asyncio.sleep(seconds)
        ready = await until_writable(database)
        await asyncio.sleep(RECOVERY)
        await load.do(20)
        left = connections(database)
    assert_promises_held(load, database, ready=ready)
    tell(f"{left} connections afterwards")
    assert left <= CONNECTIONS


async def test_a_stop_is_not_held_up_by_a_frozen_server(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    async with loaded(service.url, github, may_be_cut_off=True):
        with frozen(server.pid):
            await asyncio.sleep(1)
            service.process.terminate()
            signalled = time.monotonic()
            await until(lambda: service.process.poll() is not None, "it did not stop")
            took = time.monotonic() - signalled
    tell(f"stopped {took:.2f} s after SIGTERM")
    assert took < SHUTDOWN


async def test_a_client_that_takes_all_connections_shuts_nobody_out_for_good(
    server: OwnPostgreSQL, database: str, service: Service, github: GitHub
) -> None:
    async with loaded(service.url, github) as load:
        with ExitStack() as stack:
            taken = await asyncio.to_thread(take_all_connections, stack, server, database)
            await asyncio.sleep(3)
            tell(f"somebody else had {taken} connections")
        ready = await until_writable(database)
        await asyncio.sleep(RECOVERY)
        await load.do(20)
    assert_promises_held(load, database, ready=ready)
    assert any(answer.is_database_away for answer in load.answers)


def take_all_connections(stack: ExitStack, server: OwnPostgreSQL, database: str) -> int:
    """Connect until there is no room for anybody, taking from the service what it has."""
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
        async with loaded(service.url, github) as load:
            await asyncio.sleep(3)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("ALTER ROLE few CONNECTION LIMIT -1")
            ready = time.monotonic()
            await asyncio.sleep(RECOVERY)
            await load.do(20)
        assert_promises_held(load, database, ready=ready)
        assert_nothing_unforeseen(service)


# The embedded one


async def test_a_killed_embedded_server_comes_back_and_has_lost_nothing(github: GitHub) -> None:
    with (
        data_folder() as folder,
        running(**embedded_in(folder), GITHUB_API_URL=github.url) as service,
    ):
        embedded = Embedded(folder)
        async with loaded(service.url, github) as load:
            for _ in range(2):
                pid = embedded.published()["postgres"]
                os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                await until(lambda: not is_alive(pid), "it was not killed")  # noqa: B023
                ready = await until_writable(embedded.url)
                tell(f"PostgreSQL was ready {ready - killed:.2f} s after it was killed")
                await asyncio.sleep(RECOVERY)
                await load.do(20)
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
            pytest.skip("nobody here may mount a file system, so no disk can be filled up")
        try:
            yield folder / "data"
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    return ballast


async def test_a_full_disk_costs_503_and_loses_nothing(github: GitHub) -> None:
    """At first tables cannot grow; then there is no room for the log, and PostgreSQL gives up."""
    with (
        small_disk() as folder,
        running(**embedded_in(folder), GITHUB_API_URL=github.url) as service,
    ):
        embedded = Embedded(folder)
        async with loaded(service.url, github) as load:
            ballast = await asyncio.to_thread(fill, folder.parent)
            assert shutil.disk_usage(folder).free < 4096
            await until(lambda: load.answers[-1].is_database_away, "nobody noticed")
            await asyncio.sleep(2)
            tell(f"tables could not grow: {load}")
            with suppress(psycopg.Error), psycopg.connect(embedded.url) as connection:
                connection.execute("SELECT pg_switch_wal()")
            await asyncio.sleep(AWAY / 2)
            tell(f"there was no room for the log: {load}")
            ballast.unlink()
            freed = time.monotonic()
            ready = await until_writable(embedded.url)
            tell(f"PostgreSQL was ready {ready - freed:.2f} s after there was room")
            await asyncio.sleep(RECOVERY)
            await load.do(20)
        assert_promises_held(load, embedded.url, ready=ready)
        assert_nothing_unforeseen(service)
