"""Databases of another encoding, language or settings, which change nothing."""

from collections.abc import Iterator
from typing import LiteralString

import httpx2 as httpx
import psycopg
import pytest
from psycopg import sql

from app.postgres.url import connection_parameters
from lab.database import migrate, new_database
from lab.github.server import GitHub
from tests.conftest import Serve


async def track(client: httpx.AsyncClient, owner: str, name: str) -> httpx.Response:
    return await client.post("/repos", json={"owner": owner, "repo_name": name})


async def assert_all_four_endpoints_work(client: httpx.AsyncClient, github: GitHub) -> None:
    plex = github.add("IBM", "Plex", stars=5)
    tracked = await track(client, "ibm", "plex")
    assert tracked.status_code == 201, tracked.text
    path = tracked.headers["location"]
    again = await track(client, "IBM", "PLEX")
    assert (again.status_code, again.headers["location"]) == (409, path)
    assert github.count == 1

    # Another repository takes the name, in another spelling.
    carbon = github.add("IBM", "Carbon", stars=7)
    other = (await track(client, "IBM", "Carbon")).headers["location"]
    github.rename(plex, "IBM", "Invisible")
    github.rename(carbon, "ibm", "PLEX")
    renamed = await client.put(other)
    assert renamed.status_code == 200, renamed.text
    assert {"owner": "ibm", "repo_name": "PLEX"}.items() <= renamed.json().items()
    read = (await client.get(path)).json()
    assert {"owner": "IBM", "repo_name": "Invisible", "stars": 5}.items() <= read.items()

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JP"])
async def test_a_database_may_have_any_encoding(
    serve: Serve, github: GitHub, postgresql: str, encoding: LiteralString
) -> None:
    with new_database(postgresql, f"ENCODING {encoding} LOCALE 'C' TEMPLATE template0") as url:
        await migrate(url)
        async with serve(database_url=url) as client:
            await assert_all_four_endpoints_work(client, github)


TURKISH: dict[str, LiteralString] = {
    "libc": "LOCALE 'tr_TR.UTF-8' ENCODING 'UTF8' TEMPLATE template0",
    "icu": "LOCALE_PROVIDER icu ICU_LOCALE 'tr' LOCALE 'C' ENCODING 'UTF8' TEMPLATE template0",
}


@pytest.fixture(params=list(TURKISH))
def turkish_database(postgresql: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in whose language the small letter of I has no dot."""
    try:
        with new_database(postgresql, TURKISH[request.param]) as url:
            yield url
    except (psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported) as error:
        pytest.skip(f"PostgreSQL has no Turkish here: {error}")


async def test_a_database_may_be_turkish(
    serve: Serve, github: GitHub, turkish_database: str
) -> None:
    with psycopg.connect(turkish_database) as connection:
        assert connection.execute("SELECT lower('I')").fetchone() == ("\u0131",)
    await migrate(turkish_database)
    async with serve(database_url=turkish_database) as client:
        await assert_all_four_endpoints_work(client, github)


SETTINGS: list[LiteralString] = [
    "client_encoding = 'SQL_ASCII'",
    "datestyle = 'SQL, DMY'",
    "default_transaction_deferrable = on",
    "default_transaction_isolation = 'serializable'",
    "intervalstyle = 'sql_standard'",
    "plan_cache_mode = 'force_custom_plan'",
    "quote_all_identifiers = on",
    "search_path = public, pg_catalog",
    "standard_conforming_strings = off",
    "timezone = 'Asia/Kathmandu'",
    "transform_null_equals = on",
]


async def test_a_database_may_have_any_settings(
    serve: Serve, github: GitHub, postgresql: str
) -> None:
    with new_database(postgresql) as url:
        name = sql.Identifier(str(connection_parameters(url)["dbname"]))
        with psycopg.connect(postgresql, autocommit=True) as connection:
            for setting in SETTINGS:
                alter = sql.SQL("ALTER DATABASE {} SET {}")
                connection.execute(alter.format(name, sql.SQL(setting)))
        await migrate(url)
        async with serve(database_url=url) as client:
            await assert_all_four_endpoints_work(client, github)
