"""What the tests share: a real PostgreSQL, a stand-in for GitHub, and the service between them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import certifi
import httpx2 as httpx
import psycopg
import pytest
import uvicorn
from psycopg.conninfo import make_conninfo

from app.database import Database
from app.main import create_app
from app.settings import Settings
from lab.database import embedded, migrate, new_database
from lab.github.process import GitHubProcess, github_process
from lab.github.server import GitHub
from lab.service import Service, running
from tests.support.database import Rows, Wire

pytest.register_assert_rewrite("tests.support.contract")

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def reachable_path() -> Iterator[Path]:
    """A temporary folder that root's PostgreSQL, which runs as another user, can reach too."""
    path = Path(tempfile.mkdtemp(prefix="tracker-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgresql(reachable_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server: that of TEST_DATABASE_URL, else an embedded one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with embedded(reachable_path / "postgresql") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # What this server has need not survive a crash, so nobody waits for the disk.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def database_url(postgresql: str) -> Iterator[str]:
    """A database of this test process alone, with the schema that the migrations make."""
    with new_database(postgresql) as url:
        asyncio.run(migrate(url))
        yield url


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
def rows(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test's own; the tables are empty when the test begins.

    The service reads and writes on several connections at once, so no transaction that is rolled
    back could isolate a test.
    """
    with psycopg.connect(make_conninfo(database_url), autocommit=True) as connection:
        connection.execute("TRUNCATE repositories CASCADE")
        yield connection


@pytest.fixture
async def database(database_url: str, rows: Rows) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def wires(database_url: str) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two ways to one database, as if they were two hosts."""
    async with Wire.to(database_url) as one, Wire.to(database_url) as other:
        yield one, other


@pytest.fixture
async def github() -> AsyncIterator[GitHub]:
    """The stand-in for GitHub; a test fails if it was sent what GitHub would refuse."""
    async with GitHub.serve() as github:
        yield github
        assert github.violations == []


@pytest.fixture
def serve(database_url: str, github: GitHub, rows: psycopg.Connection[Any]) -> Serve:
    """Serve the application on loopback with these settings; yields a client for it."""

    @asynccontextmanager
    async def serve(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        defaults = {"database_url": database_url, "github_api_url": github.url, "port": 0}
        app = create_app(Settings(**{**defaults, **settings}))
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            assert not serving.done(), "the service did not start"
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        # Longer than the deadlines of the service, which tests have to see.
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                yield client
        finally:
            server.should_exit = True
            await serving

    return serve


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service with its default settings."""
    async with serve() as client:
        yield client


@pytest.fixture(scope="module")
def generous_github() -> Iterator[GitHubProcess]:
    """A GitHub in a process of its own that has every repository, and no limit."""
    with github_process("--generate") as github:
        yield github


@pytest.fixture(scope="module")
def service(postgresql: str, generous_github: GitHubProcess) -> Iterator[Service]:
    """The service as a process of its own, with a database of its own."""
    with (
        new_database(postgresql) as url,
        running(DATABASE_URL=url, GITHUB_API_URL=generous_github.url) as service,
    ):
        yield service


@pytest.fixture(scope="session", autouse=True)
def _one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let HTTP clients trust one authority: to load all takes more time than most tests.

    No test reaches a server that any of them vouches for.
    """
    one = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(one[0] + one[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
