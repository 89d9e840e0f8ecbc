"""The service's own processes killed in the middle of writes, stopped, and started at once."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx2 as httpx
import psycopg
import pytest

from app.deadlines import SHUTDOWN
from lab.database import new_database
from lab.github.answers import silence
from lab.github.server import GitHub
from lab.processes import children, is_alive, send
from lab.service import AS_MODULE, STARTED, Service, embedded_in, running
from tests.faults.postgresql import Embedded, until_writable
from tests.support.calls import CUT_OFF, ask, track
from tests.support.data_folder import data_folder, processes
from tests.support.load import Load
from tests.support.promises import (
    MARGIN,
    PROMISED,
    RECOVERY,
    assert_readable,
    assert_stored,
    rows_of,
)
from tests.support.waiting import PATIENCE, tell, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
    pytest.mark.timeout(180),
]

WORKERS = 2
# Requests of each kind after which a service counts as recovered.
RECOVERED = 20
REPLICAS = 10
LATENCY = 1.0
# Seconds that ten replicas have to start on a machine with a core or two.
START_PATIENCE = 100.0


@contextmanager
def embedded_service(folder: Path, github: GitHub, workers: int = WORKERS) -> Iterator[Service]:
    """Run the service with a PostgreSQL of its own."""
    settings = {**embedded_in(folder), "GITHUB_API_URL": github.url, "WORKERS": str(workers)}
    with running(**settings) as service:
        yield service


def workers_of(service: Service) -> list[int]:
    """Return the processes that answer requests."""
    found = []
    for pid in children(service.process.pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


async def test_a_killed_worker_is_replaced_and_nothing_acknowledged_is_lost(
    github: GitHub,
) -> None:
    with data_folder() as folder, embedded_service(folder, github) as service:
        await until(lambda: len(workers_of(service)) == WORKERS, "there are not two workers")
        with Load([service.url], github.url, tolerated=[CUT_OFF]) as load:
            victim, other = workers_of(service)
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            await until(lambda: service.said(STARTED) == WORKERS + 1, "it was not replaced")
            tell(f"replaced after {time.monotonic() - killed:.2f} s")
            assert len(workers_of(service)) == WORKERS
            assert other in workers_of(service)
            await until(load.served(RECOVERED), "it did not recover")
        assert_kept(load, Embedded(folder).url, well=killed)


async def test_a_killed_supervisor_is_replaced_and_nothing_acknowledged_is_lost(
    github: GitHub,
) -> None:
    with data_folder() as folder, embedded_service(folder, github) as service:
        embedded = Embedded(folder)
        with Load([service.url], github.url) as load:
            before = embedded.published()
            os.kill(before["supervisor"], signal.SIGKILL)
            killed = time.monotonic()
            await until(lambda: embedded.published() not in ({}, before), "nobody took its place")
            ready = await until_writable(embedded.url)
            tell(f"PostgreSQL was ready {ready - killed:.2f} s after the supervisor was killed")
            assert not is_alive(before["postgres"])
            await until(load.served(RECOVERED), "it did not recover")
        assert_kept(load, embedded.url, well=ready + RECOVERY)


@pytest.mark.parametrize("workers", [1, WORKERS])
async def test_a_killed_server_leaves_nothing_but_what_it_acknowledged(
    github: GitHub, workers: int
) -> None:
    with data_folder() as folder:
        with (
            embedded_service(folder, github, workers) as service,
            Load([service.url], github.url, tolerated=[CUT_OFF]) as load,
        ):
            async with no_survivors(service):
                service.process.kill()
                killed = time.monotonic()
                await until(lambda: not processes(folder), "PostgreSQL lives on")
            tell(f"nothing was left {time.monotonic() - killed:.2f} s after the kill")
        assert load.broken == []
        with embedded_service(folder, github, workers) as service:
            assert_stored(load.records, rows_of(Embedded(folder).url))
            assert_readable(load.records, service.url)
            with Load([service.url], github.url) as again:
                await until(again.served(20), "it does not serve")
            assert_kept(again, Embedded(folder).url, well=killed)


@asynccontextmanager
async def no_survivors(service: Service) -> AsyncIterator[None]:
    """No process of the service is left in the end."""
    family = [service.process.pid, *children(service.process.pid)]
    try:
        yield
        # The kernel takes a moment to end a process, even one that was killed.
        await until(lambda: not any(map(is_alive, family)), "the service lives on", RECOVERY)
    finally:
        send(signal.SIGKILL, *family)


async def test_all_processes_killed_at_once_leave_nothing_but_what_was_acknowledged(
    github: GitHub,
) -> None:
    """As when the machine loses its power, except that the disk keeps its cache."""
    with data_folder() as folder:
        with (
            embedded_service(folder, github) as service,
            Load([service.url], github.url, tolerated=[CUT_OFF]) as load,
        ):
            published = Embedded(folder).published()
            supervisor, postgres = published["supervisor"], published["postgres"]
            family = [service.process.pid, *children(service.process.pid)]
            # Stopped first, so that none of them starts another one meanwhile.
            send(signal.SIGSTOP, *family)
            send(signal.SIGKILL, supervisor, postgres, *children(postgres), *family)
            await until(lambda: not processes(folder), "PostgreSQL lives on")
        assert load.broken == []
        with embedded_service(folder, github) as service:
            assert_stored(load.records, rows_of(Embedded(folder).url))


def assert_kept(load: Load, url: str, *, well: float) -> None:
    """Fail unless all answers were right, none was a refusal after `well`, and all is stored."""
    lost = sum(answer.status == CUT_OFF for answer in load.answers)
    refused = [answer for answer in load.answers if answer.status >= 500 and answer.started > well]
    tell(f"{load}; {lost} cut off, {len(refused)} refused when all was well")
    assert load.broken == []
    assert refused == []
    assert load.slowest() < PROMISED + MARGIN
    assert_stored(load.records, rows_of(url))


@pytest.mark.usefixtures("github_recovers")
@pytest.mark.parametrize("workers", [1, WORKERS])
async def test_every_request_under_way_is_answered_after_sigterm(
    github: GitHub, postgresql: str, workers: int
) -> None:
    """Even those that wait for a slow GitHub, and one that GitHub never answers."""
    with new_database(postgresql) as url:
        settings = {"DATABASE_URL": url, "GITHUB_API_URL": github.url, "WORKERS": str(workers)}
        with (
            running(**settings) as service,
            Load([service.url], github.url, tolerated=[CUT_OFF]) as load,
        ):
            github.latency = LATENCY
            github.script("silent/silent", silence(), repeat=True)
            before = github.count
            async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
                waiting = [
                    asyncio.create_task(track(client, service.url, *name))
                    for name in [("silent", "silent"), *(("slow", f"r-{n}") for n in range(15))]
                ]
                await until(lambda: github.count >= before + len(waiting), "GitHub was not asked")
                service.process.terminate()
                signalled = time.monotonic()
                await refuses_connections(service)
                refused = time.monotonic()
                answers = await asyncio.gather(*waiting)
                await until(lambda: service.process.poll() is not None, "it did not stop")
                stopped = time.monotonic()
        statuses = Counter(answer.status for answer in answers)
        tell(
            f"{statuses}, connections refused after {refused - signalled:.2f} s, "
            f"stopped after {stopped - signalled:.2f} s with {service.process.returncode}"
        )
        assert statuses == {504: 1, 201: 15}
        assert max(answer.seconds for answer in answers) < PROMISED + MARGIN
        assert stopped - signalled < SHUTDOWN
        assert service.process.returncode in {0, -signal.SIGTERM}
        cut_off = [a for a in load.answers if a.status == CUT_OFF and a.started < signalled - 0.5]
        assert cut_off == []
        assert load.broken == []
        stored = {answer.body["id"] for answer in answers if answer.status == 201}
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT id::text FROM repositories WHERE owner = 'slow'")
            assert {row[0] for row in rows} == stored


async def refuses_connections(service: Service) -> None:
    """Wait until the service takes no more connections."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        except ConnectionError:
            return
        writer.close()
        await asyncio.sleep(0.02)
    pytest.fail("it goes on taking connections")


async def test_ten_replicas_started_at_once_on_an_empty_database_migrate_it_once(
    github: GitHub, postgresql: str
) -> None:
    with new_database(postgresql) as url, ExitStack() as stack:
        begun = time.monotonic()
        settings = {"DATABASE_URL": url, "GITHUB_API_URL": github.url}
        replicas = [Service(AS_MODULE, settings) for _ in range(REPLICAS)]
        for replica in replicas:
            stack.callback(replica.stop)
        await until(lambda: all(r.url for r in replicas), "not all started", START_PATIENCE)
        tell(f"{REPLICAS} replicas served after {time.monotonic() - begun:.1f} s")
        with psycopg.connect(url) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname='public'")
            names = sorted(name for (name,) in tables)
            versions = connection.execute("SELECT * FROM alembic_version").fetchall()
        assert names == ["alembic_version", "github_links", "repositories"]
        assert len(versions) == 1
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            same = await asyncio.gather(*(track(client, r.url, "one", "same") for r in replicas))
            assert Counter(answer.status for answer in same) == {201: 1, 409: REPLICAS - 1}
            assert len({a.body.get("id") or a.body["repository_id"] for a in same}) == 1
            owned = await asyncio.gather(
                *(track(client, r.url, "own", f"r-{n}") for n, r in enumerate(replicas))
            )
            assert {answer.status for answer in owned} == {201}
            for reader, answer in zip(replicas, reversed(owned), strict=True):
                read = await ask(client, "GET", f"{reader.url}/repos/{answer.body['id']}")
                assert read.body == answer.body
        for replica in replicas:
            replica.process.terminate()
        assert {replica.stop() for replica in replicas} <= {0, -signal.SIGTERM}
        assert not any(replica.said("Traceback") for replica in replicas)
