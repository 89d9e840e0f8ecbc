"""Connections to hosts of which one falls silent, cut off without anybody being told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2 as httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.postgres.connections import IDLE_PATIENCE, Connection, Connector
from lab.database import url_of
from lab.github.server import GitHub
from tests.conftest import Serve
from tests.support.database import Wire

Rows = psycopg.Connection[Any]


@pytest.fixture
async def wires(database_url: str) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two ways to one database, as if they were two hosts."""
    async with Wire.to(database_url) as one, Wire.to(database_url) as other:
        yield one, other


def url_of_both(wires: tuple[Wire, Wire], **parameters: str) -> str:
    both = {
        "host": ",".join(["127.0.0.1"] * len(wires)),
        "port": ",".join(str(port_of(wire)) for wire in wires),
    }
    return url_of({**wires[0].parameters, **both, **parameters})


@pytest.fixture
def hosts(wires: tuple[Wire, Wire]) -> str:
    """A URL that names both ways, and asks for the one that takes writes."""
    return url_of_both(wires, target_session_attrs="read-write")


@asynccontextmanager
async def opened(connector: Connector) -> AsyncIterator[Connection]:
    connection = await connector.open()
    try:
        yield connection
    finally:
        await connection.close()


def port_of(wire: Wire) -> int:
    return int(cast("str", conninfo_to_dict(wire.url)["port"]))


def is_well(responses: list[httpx.Response]) -> bool:
    return {response.status_code for response in responses} <= {200, 201, 204}


async def test_a_connection_in_use_is_not_idle(database_url: str) -> None:
    async with opened(Connector(database_url)) as connection:
        assert not connection.is_idle


async def test_an_idle_connection_answers(database_url: str) -> None:
    async with opened(Connector(database_url)) as connection:
        assert await connection.answers()
        assert await connection.answers()
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_a_connection_that_was_closed_does_not_answer(database_url: str, rows: Rows) -> None:
    async with opened(Connector(database_url)) as connection:
        rows.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        assert not await connection.answers()


async def test_a_connection_to_a_silent_host_times_out_in_a_second(
    wires: tuple[Wire, Wire],
) -> None:
    wire = wires[0]
    async with opened(Connector(wire.url)) as connection:
        wire.freeze()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await connection.answers()
        assert IDLE_PATIENCE <= time.monotonic() - started < IDLE_PATIENCE + 1


async def test_a_host_that_is_distrusted_is_tried_last(
    wires: tuple[Wire, Wire], hosts: str
) -> None:
    connector = Connector(hosts)

    async def port() -> int:
        async with opened(connector) as connection:
            return connection.info.port

    first, second = (port_of(wire) for wire in wires)
    assert [await port(), await port()] == [first, first]
    assert connector.distrust(connector.generation)
    assert [await port(), await port()] == [second, second]


async def test_hosts_stay_in_their_order_where_nobody_asks_for_the_leader(
    wires: tuple[Wire, Wire],
) -> None:
    connector = Connector(url_of_both(wires))
    for _ in range(2):
        async with opened(connector) as connection:
            assert connection.info.port == port_of(wires[0])
        connector.distrust(connector.generation)


async def test_a_generation_is_distrusted_once(hosts: str) -> None:
    connector = Connector(hosts)
    generation = connector.generation
    assert connector.distrust(generation)
    assert not connector.distrust(generation)
    assert connector.generation == generation + 1


async def test_what_was_opening_meanwhile_is_distrusted_too(database_url: str) -> None:
    connector = Connector(database_url)
    opening = asyncio.create_task(connector.open())
    await asyncio.sleep(0)
    connector.distrust(connector.generation)
    connection = await opening
    await connection.close()
    assert connection.generation < connector.generation


async def test_a_host_that_refuses_leaves_its_place_to_the_next(
    wires: tuple[Wire, Wire], hosts: str
) -> None:
    connector = Connector(hosts)
    wires[0].refuse()
    for _ in range(2):
        async with opened(connector) as connection:
            assert connection.info.port == port_of(wires[1])


async def test_the_first_callers_after_a_host_fell_silent_unnoticed_are_served(
    serve: Serve,
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    wires: tuple[Wire, Wire],
    hosts: str,
) -> None:
    github.generate = True
    async with serve(database_url=hosts) as client:

        async def track(name: str) -> httpx.Response:
            return await client.post("/repos", json={"owner": "quiet", "repo_name": name})

        path = (await track("before")).headers["location"]
        assert is_well(await asyncio.gather(*(client.get(path) for _ in range(20))))
        monkeypatch.setattr("app.postgres.connections.IDLE", -1.0)
        wires[0].freeze()
        calls = [*(client.get(path) for _ in range(20)), client.put(path), track("after")]
        assert is_well(await asyncio.gather(*calls))


async def test_nobody_uses_the_connections_to_a_host_that_somebody_found_silent(
    serve: Serve,
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    wires: tuple[Wire, Wire],
    hosts: str,
) -> None:
    """Such a host may speak again, and not know yet what has been written elsewhere."""
    github.generate = True
    async with serve(database_url=hosts) as client:
        tracked = await client.post("/repos", json={"owner": "a", "repo_name": "b"})
        path = tracked.headers["location"]
        assert is_well([await client.get(path)])
        monkeypatch.setattr("app.postgres.connections.IDLE", -1.0)
        wires[0].freeze()
        assert is_well([await client.put(path)])
        monkeypatch.setattr("app.postgres.connections.IDLE", 60.0)
        started = time.monotonic()
        assert is_well([await client.get(path)])
        assert time.monotonic() - started < IDLE_PATIENCE
