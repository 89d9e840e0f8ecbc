"""The application as it is started, by each of its names."""

import signal
from pathlib import Path

import httpx2 as httpx
import pytest

import app.main
from app.errors import SettingsError
from app.main import create_app
from app.settings import Settings
from lab.database import new_database
from lab.github.server import GitHub
from lab.service import AS_MODULE, ran, running
from tests.conftest import Serve

COMMANDS = {
    "python -m app": AS_MODULE,
    "uvicorn main:app": ("-m", "uvicorn", "main:app", "--port", "0"),
    "uvicorn app.main:app": ("-m", "uvicorn", "app.main:app", "--port", "0"),
}
commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@commands
def test_the_service_serves_and_ends_when_told(command: tuple[str, ...], postgresql: str) -> None:
    with new_database(postgresql) as url, running(*command, DATABASE_URL=url) as service:
        assert httpx.get(f"{service.url}/openapi.json").status_code == 200
        assert service.stop() in {0, -signal.SIGTERM}


def test_reloading_watches_the_sources_without_reading_them(postgresql: str) -> None:
    """Without watchfiles, uvicorn reads the time of every file several times a second."""
    command = (*COMMANDS["uvicorn main:app"], "--reload")
    with new_database(postgresql) as url, running(*command, DATABASE_URL=url) as service:
        assert httpx.get(f"{service.url}/openapi.json").status_code == 200
        assert service.said("using WatchFiles") == 1
        assert service.stop() in {0, -signal.SIGTERM}


def test_the_service_follows_githubs_address_and_token(postgresql: str) -> None:
    token = "ghp_of-a-test"  # noqa: S105
    with GitHub.in_thread(prefix="/api/v3") as github, new_database(postgresql) as url:
        github.token = token
        github.add("fastapi", "fastapi", stars=3)
        settings = {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": token}
        with running(DATABASE_URL=url, **settings) as service:
            reference = {"owner": "fastapi", "repo_name": "fastapi"}
            answer = httpx.post(f"{service.url}/repos", json=reference)
        assert (answer.status_code, github.violations) == (201, [])


def test_nonsense_ends_the_command_with_a_sentence_and_no_traceback() -> None:
    ended = ran(*AS_MODULE, PORT="http", DATABASE_URL="mysql://h/d")
    assert ended.returncode == 1
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == [
        "DATABASE_URL",
        "PORT",
    ]


def test_nonsense_ends_uvicorn_with_a_sentence() -> None:
    ended = ran(*COMMANDS["uvicorn main:app"], DATABASE_URL="mysql://h/d")
    assert ended.returncode != 0
    assert "DATABASE_URL: give a URL" in ended.stderr.splitlines()[-1]


@commands
def test_a_database_that_does_not_exist_ends_the_service_with_a_sentence(
    command: tuple[str, ...], postgresql: str
) -> None:
    """Waiting would not help, and a traceback neither."""
    with new_database(postgresql) as url:
        pass
    ended = ran(*command, DATABASE_URL=url)
    assert ended.returncode != 0
    assert "does not exist. Check DATABASE_URL." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_importing_the_application_reads_no_settings() -> None:
    ended = ran("-c", "import app.main", DATABASE_URL="mysql://h/d")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_application_has_the_name_of_the_brief() -> None:
    program = "import fastapi, main; assert isinstance(main.app, fastapi.FastAPI)"
    ended = ran("-c", program)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_module_has_nothing_else_that_is_made_on_demand() -> None:
    with pytest.raises(AttributeError, match="application"):
        _ = app.main.application


def test_building_the_application_with_nonsense_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SettingsError):
        create_app()


def test_building_the_application_opens_nothing(tmp_path: Path) -> None:
    create_app(Settings(data_dir=tmp_path / "data"))
    assert not (tmp_path / "data").exists()


async def test_two_applications_share_nothing(serve: Serve) -> None:
    async with serve(allowed_hosts=("one.test",)) as one, serve(allowed_hosts=("two.test",)) as two:
        answers = [
            await client.get("/docs", headers={"Host": host})
            for client in (one, two)
            for host in ("one.test", "two.test")
        ]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 200]
