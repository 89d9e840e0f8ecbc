"""Connections to the first of several hosts that will do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from app.postgres.connections import Connection, Connector
from app.postgres.url import connection_parameters
from lab.database import url_of
from tests.support.database import Wire, url_of_both

pytestmark = pytest.mark.direct


@asynccontextmanager
async def opened(connector: Connector, *, has_one_plan: bool = False) -> AsyncIterator[Connection]:
    connection = await connector.open(has_one_plan=has_one_plan)
    try:
        yield connection
    finally:
        await connection.close()


def port_of(wire: Wire) -> int:
    return int(connection_parameters(wire.url)["port"])


async def test_what_the_url_says_wins(database_url: str) -> None:
    url = url_of({**connection_parameters(database_url), "application_name": "mine"})
    async with opened(Connector(url)) as connection:
        name = await (await connection.execute("SHOW application_name")).fetchone()
    assert name == ("mine",)


@pytest.mark.parametrize(("asked", "mode"), [(False, "auto"), (True, "force_generic_plan")])
async def test_a_statement_has_one_plan_if_asked(database_url: str, asked: bool, mode: str) -> None:  # noqa: FBT001
    async with opened(Connector(database_url), has_one_plan=asked) as connection:
        set_to = await (await connection.execute("SHOW plan_cache_mode")).fetchone()
    assert set_to == (mode,)


async def test_the_first_host_that_answers_is_used(wires: tuple[Wire, Wire]) -> None:
    for _ in range(2):
        async with opened(Connector(url_of_both(wires))) as connection:
            assert connection.info.port == port_of(wires[0])


async def test_a_host_that_refuses_leaves_its_place_to_the_next(wires: tuple[Wire, Wire]) -> None:
    wires[0].refuse()
    async with opened(Connector(url_of_both(wires))) as connection:
        assert connection.info.port == port_of(wires[1])


async def test_a_host_that_is_silent_leaves_its_place_to_the_next_in_time(
    wires: tuple[Wire, Wire],
) -> None:
    wires[0].freeze()
    async with asyncio.timeout(4), opened(Connector(url_of_both(wires))) as connection:
        assert connection.info.port == port_of(wires[1])


async def test_the_host_that_led_last_is_tried_first(wires: tuple[Wire, Wire]) -> None:
    connector = Connector(url_of_both(wires))
    wires[0].freeze()
    async with opened(connector):
        pass
    wires[0].thaw()
    async with opened(connector) as connection:
        assert connection.info.port == port_of(wires[1])


async def test_hosts_stay_in_their_order_if_the_url_does_not_ask_for_the_leader(
    wires: tuple[Wire, Wire],
) -> None:
    connector = Connector(url_of_both(wires, target_session_attrs="any"))
    wires[0].freeze()
    async with opened(connector):
        pass
    wires[0].thaw()
    async with opened(connector) as connection:
        assert connection.info.port == port_of(wires[0])


@pytest.mark.parametrize("parameters", [{"hostaddr": "127.0.0.1,127.0.0.1"}, {"port": "{}"}])
async def test_hosts_may_be_named_in_other_ways(
    database_url: str, parameters: dict[str, str]
) -> None:
    known = connection_parameters(database_url)
    named = {name: value.format(known["port"]) for name, value in parameters.items()}
    hosts = {"host": "127.0.0.1,127.0.0.1", "target_session_attrs": "read-write"}
    connector = Connector(url_of({**known, **hosts, **named}))
    for _ in range(2):
        async with opened(connector) as connection:
            assert connection.info.port == int(known["port"])


async def test_hosts_that_all_refuse_are_an_error(wires: tuple[Wire, Wire]) -> None:
    for wire in wires:
        wire.refuse()
    with pytest.raises(psycopg.OperationalError):
        await Connector(url_of_both(wires)).open()
