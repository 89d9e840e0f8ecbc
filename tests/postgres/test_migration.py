"""The schema, brought up to date by any number of programs at once, or refused with a sentence."""

import asyncio
import sys
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from psycopg import sql

from app import PROJECT_DIR
from app.errors import StartError
from app.postgres.migration import MIGRATION_LOCK
from app.postgres.url import connection_parameters
from lab.database import migrate, url_of
from tests.support.database import alembic, closed


def tables(url: str) -> set[str]:
    with psycopg.connect(**connection_parameters(url)) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in found}


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


def of_release_1_0(url: str) -> None:
    alembic(url, lambda config: command.upgrade(config, "0001"))


def repositories(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(**connection_parameters(url)) as connection:
        found = connection.execute("SELECT id, owner, repo_name, stars FROM repositories")
        return sorted(found.fetchall())


async def test_the_records_of_release_1_0_are_kept(empty_database: str) -> None:
    of_release_1_0(empty_database)
    with psycopg.connect(**connection_parameters(empty_database)) as connection:
        for number in range(20):
            connection.execute(
                "INSERT INTO repositories VALUES (gen_random_uuid(), 'Own_er', %s, %s)",
                [f"Name.{number}-", number],
            )
    before = repositories(empty_database)
    await migrate(empty_database)
    assert repositories(empty_database) == before


async def test_of_two_records_with_one_name_the_one_checked_last_keeps_it(
    empty_database: str,
) -> None:
    """A Turkish database of release 1.0 could take IBM for another name than ibm."""
    of_release_1_0(empty_database)
    stale, fresh = uuid4(), uuid4()
    name = "I" * 100
    with psycopg.connect(**connection_parameters(empty_database)) as connection:
        connection.execute("DROP INDEX uq_repositories_owner_repo_name")
        connection.execute("CREATE INDEX uq_repositories_owner_repo_name ON repositories (id)")
        for number, key in enumerate((stale, fresh)):
            spelling = name.lower() if number else name
            connection.execute("INSERT INTO repositories VALUES (%s, 'o', %s, 1)", [key, spelling])
            connection.execute(
                "INSERT INTO github_links VALUES (%s, %s, NULL, now() + %s * interval '1 day')",
                [key, number, number],
            )
    await migrate(empty_database)
    names = {key: name for key, _, name, _ in repositories(empty_database)}
    assert names == {fresh: name.lower(), stale: "I" * 63 + f"~{stale}"}


async def test_migrations_can_be_taken_back(own_database: str) -> None:
    alembic(own_database, lambda config: command.downgrade(config, "base"))
    assert tables(own_database) == {"alembic_version"}


async def test_migrations_that_were_taken_back_can_be_made_again(own_database: str) -> None:
    alembic(own_database, lambda config: command.downgrade(config, "base"))
    await migrate(own_database)
    assert tables(own_database) == {"alembic_version", "github_links", "repositories"}


@pytest.mark.direct
async def test_a_migration_may_take_longer_than_everyday_statements(empty_database: str) -> None:
    name = sql.Identifier(str(connection_parameters(empty_database)["dbname"]))
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query_start < now() - interval '0.2 s'"
    )
    with psycopg.connect(**connection_parameters(empty_database), autocommit=True) as connection:
        for limit in ("statement_timeout", "lock_timeout"):
            alter = sql.SQL("ALTER DATABASE {} SET {} = '100ms'")
            connection.execute(alter.format(name, sql.Identifier(limit)))
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        migrating = asyncio.create_task(migrate(empty_database, patience=0))
        async with asyncio.timeout(10):
            while connection.execute(waiting).fetchone() != (1,):
                assert not migrating.done()
                await asyncio.sleep(0.01)
        connection.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        await migrating


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


@pytest.mark.direct
async def test_a_user_who_does_not_exist_is_refused_at_once(database_url: str) -> None:
    """With a password that is wrong as well, whichever of the two the server minds."""
    wrong = {"user": "no-such-user", "password": "wrong"}
    url = url_of({**connection_parameters(database_url), **wrong})
    async with asyncio.timeout(5):
        with pytest.raises(StartError, match=r"no-such-user.*DATABASE_URL"):
            await migrate(url)


async def test_a_refusal_to_start_tells_no_password(database_url: str) -> None:
    wrong = {"dbname": "no-such-database", "password": "hunter2"}
    url = url_of({**connection_parameters(database_url), **wrong})
    with pytest.raises(StartError) as refusal:
        await migrate(url, patience=0.1)
    assert "hunter2" not in str(refusal.value)


async def test_a_host_that_does_not_answer_is_refused_when_patience_ends() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(StartError, match=r"^PostgreSQL cannot be used: .*DATABASE_URL"):
            await migrate("postgresql://127.0.0.1:1/d", patience=0.6)


async def test_a_postgresql_that_comes_while_the_service_waits_is_used(
    postgresql: str, empty_database: str
) -> None:
    with closed(postgresql, empty_database):
        waiting = asyncio.create_task(migrate(empty_database))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    await waiting
    assert "repositories" in tables(empty_database)
