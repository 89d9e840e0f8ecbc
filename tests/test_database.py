"""Transactions that end in time, a PostgreSQL that goes and comes back, and the migrations."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

import app.database
import app.postgres.migration
from app import PROJECT_DIR
from app.database import Database
from app.errors import DatabaseUnavailable, StartError
from app.postgres.url import connection_parameters
from lab.database import migrate, new_database, url_of
from lab.github.server import GitHub
from tests.conftest import Serve
from tests.support.database import Wire, alembic, closed, terminate

Rows = psycopg.Connection[Any]
INSERT = text("INSERT INTO repositories VALUES (gen_random_uuid(), 'o', 'r', 1)")


@pytest.fixture
def empty_database(postgresql: str) -> Iterator[str]:
    with new_database(postgresql) as url:
        yield url


@pytest.fixture
async def own_database(empty_database: str) -> str:
    """A database of the test's own, with the schema."""
    await migrate(empty_database)
    return empty_database


@pytest.fixture
async def database(database_url: str, rows: Rows) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


def tables(url: str) -> set[str]:
    with psycopg.connect(**connection_parameters(url)) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in found}


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def count(rows: Rows) -> int:
    (number,) = rows.execute("SELECT count(*) FROM repositories").fetchone() or (-1,)
    return int(number)


async def select_one(session: AsyncSession) -> Any:
    return await session.scalar(text("SELECT 1"))


async def insert(session: AsyncSession) -> None:
    await session.execute(INSERT)


async def insert_and_sleep(session: AsyncSession) -> None:
    await session.execute(INSERT)
    await session.execute(text("SELECT pg_sleep(30)"))


# Transactions


async def test_a_transaction_returns_what_its_work_returns(database: Database) -> None:
    assert await database.transaction(select_one, deadline=in_seconds(5)) == 1


async def test_a_transaction_is_committed(database: Database, rows: Rows) -> None:
    await database.transaction(insert, deadline=in_seconds(5))
    assert count(rows) == 1


async def test_a_transaction_whose_work_fails_is_rolled_back(
    database: Database, rows: Rows
) -> None:
    async def insert_and_fail(session: AsyncSession) -> None:
        await session.execute(INSERT)
        raise KeyError

    with pytest.raises(KeyError):
        await database.transaction(insert_and_fail, deadline=in_seconds(5))
    assert count(rows) == 0


async def test_a_transaction_that_is_late_is_unavailable_by_its_deadline(
    database: Database,
) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(DatabaseUnavailable):
            await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))


async def test_a_transaction_that_is_late_is_rolled_back(database: Database, rows: Rows) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))
    await database.close()
    assert count(rows) == 0


async def test_a_transaction_that_is_late_does_not_go_on_in_postgresql(
    database: Database, rows: Rows
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))
    await database.close()
    sleepers = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active' AND query ~ 'pg_sleep.30'"
        " AND pid <> pg_backend_pid()"
    )
    assert rows.execute(sleepers).fetchone() == (0,)


async def test_a_deadline_that_has_passed_is_unavailable(database: Database, rows: Rows) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert, deadline=in_seconds(-1))
    await database.close()
    assert count(rows) == 0


async def test_after_more_late_transactions_than_connections_the_pool_is_usable(
    database: Database,
) -> None:
    late = [
        database.transaction(insert_and_sleep, deadline=in_seconds(0.3))
        for _ in range(app.database.POOL_SIZE * 2)
    ]
    errors = await asyncio.gather(*late, return_exceptions=True)
    assert {type(error) for error in errors} == {DatabaseUnavailable}
    assert await database.transaction(select_one, deadline=in_seconds(5)) == 1


async def test_a_caller_who_goes_away_does_not_tear_a_transaction_apart(
    database: Database, rows: Rows
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def insert_twice(session: AsyncSession) -> None:
        await session.execute(INSERT)
        begun.set()
        await goes_on.wait()
        await session.execute(text("UPDATE repositories SET stars = 2"))

    caller = asyncio.create_task(database.transaction(insert_twice, deadline=in_seconds(5)))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    goes_on.set()
    await database.close()
    assert rows.execute("SELECT stars FROM repositories").fetchall() == [(2,)]


async def test_closing_waits_for_the_transactions_under_way(database: Database, rows: Rows) -> None:
    begun = asyncio.Event()

    async def insert_slowly(session: AsyncSession) -> None:
        begun.set()
        await session.execute(text("SELECT pg_sleep(0.1)"))
        await session.execute(INSERT)

    under_way = asyncio.create_task(database.transaction(insert_slowly, deadline=in_seconds(5)))
    await begun.wait()
    await database.close()
    await under_way
    assert count(rows) == 1


async def test_a_lost_connection_is_unavailable(database: Database, rows: Rows) -> None:
    async def lose(session: AsyncSession) -> None:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        await session.execute(INSERT)

    with pytest.raises(DatabaseUnavailable):
        await database.transaction(lose, deadline=in_seconds(5))


async def test_connections_that_were_lost_while_idle_are_replaced(
    database: Database, rows: Rows
) -> None:
    pids = text("SELECT pg_backend_pid()")

    async def pid(session: AsyncSession) -> Any:
        return await session.scalar(pids)

    before = await database.transaction(pid, deadline=in_seconds(5))
    rows.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    assert await database.transaction(pid, deadline=in_seconds(5)) != before


# A PostgreSQL that is away, as clients of the service see it


async def track(client: httpx.AsyncClient, github: GitHub) -> str:
    github.add("fastapi", "fastapi", stars=5)
    reference = {"owner": "fastapi", "repo_name": "fastapi"}
    response = await client.post("/repos", json=reference)
    assert response.status_code == 201
    return response.headers["location"]


def is_unavailable(response: httpx.Response) -> bool:
    told = (response.status_code, response.json()["type"])
    return told == (503, "/problems/database-unavailable")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_when_postgresql_has_dropped_its_connections_nobody_notices(
    client: httpx.AsyncClient, github: GitHub, postgresql: str, database_url: str, method: str
) -> None:
    path = await track(client, github)
    assert (await client.get(path)).status_code == 200
    with psycopg.connect(postgresql, autocommit=True) as connection:
        terminate(connection, str(connection_parameters(database_url)["dbname"]))
    response = await client.request(method, path)
    assert response.status_code in {200, 204}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_postgresql_that_refuses_connections_is_503(
    serve: Serve, github: GitHub, postgresql: str, own_database: str, method: str
) -> None:
    async with serve(database_url=own_database) as client:
        path = await track(client, github)
        with closed(postgresql, own_database):
            response = await client.request(method, path)
    assert is_unavailable(response)
    assert int(response.headers["retry-after"]) == response.json()["retry_after"] >= 1


async def test_when_postgresql_refuses_connections_github_is_not_asked(
    serve: Serve, github: GitHub, postgresql: str, own_database: str
) -> None:
    async with serve(database_url=own_database) as client:
        with closed(postgresql, own_database):
            reference = {"owner": "fastapi", "repo_name": "fastapi"}
            assert is_unavailable(await client.post("/repos", json=reference))
    assert github.count == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_when_postgresql_is_back_all_is_well(
    serve: Serve, github: GitHub, postgresql: str, own_database: str, method: str
) -> None:
    async with serve(database_url=own_database) as client:
        path = await track(client, github)
        with closed(postgresql, own_database):
            assert is_unavailable(await client.request(method, path))
        assert (await client.request(method, path)).status_code in {200, 204}


async def test_a_frozen_postgresql_is_503_within_six_seconds_and_then_all_is_well(
    serve: Serve, github: GitHub, database_url: str
) -> None:
    """The promise is five seconds; the sixth is for a slow machine."""
    methods = ["GET", "PUT", "DELETE"]
    async with Wire.to(database_url) as wire, serve(database_url=wire.url) as client:
        path = await track(client, github)
        assert (await client.get(path)).status_code == 200
        wire.freeze()
        async with asyncio.timeout(6):
            requests = (client.request(method, path) for method in methods)
            away = await asyncio.gather(*requests)
        wire.thaw()
        back = [await client.request(method, path) for method in methods]
    assert [is_unavailable(response) for response in away] == [True] * 3
    assert [response.status_code for response in back] == [200, 200, 204]


# Migrations


async def test_ten_applications_may_migrate_an_empty_database_at_once(empty_database: str) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(migrate(empty_database) for _ in range(10)))
    assert tables(empty_database) == {"alembic_version", "github_links", "repositories"}


async def test_processes_that_start_at_once_may_migrate_an_empty_database(
    empty_database: str,
) -> None:
    program = "import asyncio, sys; from lab.database import migrate; "
    program += "asyncio.run(migrate(sys.argv[1]))"
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database, cwd=PROJECT_DIR
        )
        for _ in range(4)
    ]
    assert await asyncio.gather(*(process.wait() for process in started)) == [0] * 4
    assert tables(empty_database) == {"alembic_version", "github_links", "repositories"}


async def test_migrating_again_changes_nothing(own_database: str) -> None:
    with psycopg.connect(**connection_parameters(own_database)) as connection:
        connection.execute("INSERT INTO repositories VALUES (gen_random_uuid(), 'o', 'r', 1)")
    await migrate(own_database)
    with psycopg.connect(**connection_parameters(own_database)) as connection:
        assert connection.execute("SELECT stars FROM repositories").fetchall() == [(1,)]


async def test_migrations_can_be_taken_back(own_database: str) -> None:
    alembic(own_database, lambda config: command.downgrade(config, "base"))
    assert tables(own_database) == {"alembic_version"}


async def test_migrations_that_were_taken_back_can_be_made_again(own_database: str) -> None:
    alembic(own_database, lambda config: command.downgrade(config, "base"))
    await migrate(own_database)
    assert tables(own_database) == {"alembic_version", "github_links", "repositories"}


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database: str) -> None:
    with psycopg.connect(**connection_parameters(empty_database)) as connection:
        connection.execute("CREATE TABLE github_links (of_somebody_else text)")
    with pytest.raises(Exception, match="github_links"):
        await migrate(empty_database)
    assert tables(empty_database) == {"github_links"}


async def test_a_schema_of_the_future_is_refused_with_a_sentence(own_database: str) -> None:
    with psycopg.connect(**connection_parameters(own_database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartError, match=r"schema .* version .*9999"):
        await migrate(own_database)


async def test_tables_that_may_not_be_made_are_refused_with_a_sentence(empty_database: str) -> None:
    with psycopg.connect(**connection_parameters(empty_database), autocommit=True) as connection:
        connection.execute("CREATE TABLE repositories (something_else int)")
    with pytest.raises(StartError, match=r"cannot be brought up to date: .*already exists"):
        await migrate(empty_database)


async def test_a_database_that_does_not_exist_is_refused_at_once(database_url: str) -> None:
    url = url_of({**connection_parameters(database_url), "dbname": "no-such-database"})
    async with asyncio.timeout(5):
        with pytest.raises(StartError, match=r'"no-such-database" does not exist.*DATABASE_URL'):
            await migrate(url)


async def test_a_user_who_does_not_exist_is_refused_at_once(database_url: str) -> None:
    """With a password that is wrong as well, whichever of the two the server minds."""
    wrong = {"user": "no-such-user", "password": "wrong"}
    url = url_of({**connection_parameters(database_url), **wrong})
    async with asyncio.timeout(5):
        with pytest.raises(StartError, match=r"no-such-user.*DATABASE_URL"):
            await migrate(url)


async def test_a_refusal_to_start_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(app.postgres.migration, "START_PATIENCE", 0.1)
    wrong = {"dbname": "no-such-database", "password": "hunter2"}
    url = url_of({**connection_parameters(database_url), **wrong})
    with pytest.raises(StartError) as refusal:
        await migrate(url)
    assert "hunter2" not in str(refusal.value)


async def test_a_host_that_does_not_answer_is_refused_when_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app.postgres.migration, "START_PATIENCE", 0.6)
    async with asyncio.timeout(5):
        with pytest.raises(StartError, match=r"^PostgreSQL cannot be used: .*DATABASE_URL"):
            await migrate("postgresql://127.0.0.1:1/d")


async def test_a_postgresql_that_comes_while_the_service_waits_is_used(
    postgresql: str, empty_database: str
) -> None:
    with closed(postgresql, empty_database):
        waiting = asyncio.create_task(migrate(empty_database))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    await waiting
    assert "repositories" in tables(empty_database)


async def test_of_several_hosts_the_first_that_answers_is_used(database_url: str) -> None:
    parameters = connection_parameters(database_url)
    several = {
        "host": f"127.0.0.1,{parameters['host']}",
        "port": f"1,{parameters.get('port', 5432)}",
        "target_session_attrs": "read-write",
    }
    database = Database(url_of({**parameters, **several}))
    assert await database.transaction(select_one, deadline=in_seconds(5)) == 1
    await database.close()
