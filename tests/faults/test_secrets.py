"""Secrets: neither token nor password shows, whatever goes wrong."""

import signal
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from pydantic import SecretStr

from app.factory import open_github
from app.postgres.url import connection_parameters
from app.settings import Settings
from lab.database import new_database
from lab.github import answers
from lab.github.server import GitHub
from lab.service import AS_MODULE, Service, ran, running
from tests.faults.raw_http import NOWHERE
from tests.support.database import closed

TOKEN = "ghp_n0body-May-See-This-1"  # noqa: S105
# What GitHub may do to a call that carries the token.
FAILURES = {
    "bad-credentials": answers.bad_credentials(),
    "forbidden": answers.forbidden(),
    "blocked": answers.blocked(),
    "elsewhere": answers.redirect("{foreign}/repositories/1"),
    "nowhere": answers.redirect(None),
    "in-circles": answers.redirect("{base}/repos/a/in-circles"),
    "html": answers.html(),
    "not-http": answers.garbage(),
    "cut": answers.cut(),
    "reset": answers.hang_up(reset=True),
    "huge": answers.huge(),
    "bomb": answers.gzip_bomb(),
    "silence": answers.silence(),
}


def drive_to_failure(service: Service, github: GitHub, postgresql: str, url: str) -> str:
    """Let every kind of failure happen; return what the callers were told."""
    said: list[str] = []

    def send(method: str, path: str, **more: Any) -> int:
        answer = httpx.request(method, f"{service.url}{path}", timeout=10, **more)
        said.append(f"{answer.headers} {answer.text}")
        return answer.status_code

    def post(name: str) -> int:
        return send("POST", "/repos", json={"owner": "a", "repo_name": name})

    github.add("a", "good")
    github.add("a", "another")
    assert post("good") == 201
    for name, answer in FAILURES.items():
        github.script(f"a/{name}", answer, repeat=True)
        assert post(name) in {404, 502, 504}, name
    with psycopg.connect(**connection_parameters(url), autocommit=True) as connection:
        connection.execute("ALTER TABLE repositories RENAME stars TO elsewhere")
        assert send("GET", NOWHERE) == 500
        connection.execute("ALTER TABLE repositories RENAME elsewhere TO stars")
    with closed(postgresql, url):
        assert send("GET", NOWHERE) == 503
        assert post("another") == 503
    github.script("a/limited", answers.rate_limited())
    assert [post("limited"), post("limited")] == [503, 503]
    return "".join(said)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_shows_whatever_goes_wrong(postgresql: str, log_format: str) -> None:
    password = connection_parameters(postgresql).get("password") or TOKEN
    with (
        GitHub.in_thread() as github,
        GitHub.in_thread() as elsewhere,
        new_database(postgresql) as url,
    ):
        github.token, github.foreign = TOKEN, elsewhere.url
        with running(
            DATABASE_URL=url,
            GITHUB_API_URL=github.url,
            GITHUB_TOKEN=TOKEN,
            LOG_FORMAT=log_format,
            LOG_LEVEL="debug",
            PYTHONDEVMODE="1",  # Python itself then writes all that it can, at a crash too.
        ) as service:
            said = drive_to_failure(service, github, postgresql, url)
            service.stop(signal.SIGABRT)
        assert github.violations == []
        assert elsewhere.count == 0
    assert service.said("unforeseen error")
    assert service.said("Fatal Python error: Aborted")
    assert [secret for secret in (TOKEN, password) if secret in service.written + said] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"GITHUB_TOKEN": f"{TOKEN} {TOKEN}"},
        {"GITHUB_TOKEN": f"{TOKEN}\u00e9"},
        {"GITHUB_API_URL": f"https://{TOKEN}@api.github.com"},
        {"GITHUB_API_URL": f"https://api.github.com?token={TOKEN}"},
        {"DATABASE_URL": f"mysql://user:{TOKEN}@localhost/tracker"},
        {"DATABASE_URL": f"postgresql://user:{TOKEN}@local host:x/tracker"},
        {"DATABASE_URL": f"postgresql://user:{TOKEN}@127.0.0.1:1/tracker", "PORT": "x"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_without_its_secret(
    settings: dict[str, str],
) -> None:
    ended = ran(*AS_MODULE, **settings)
    assert ended.returncode == 1
    assert TOKEN not in ended.stdout + ended.stderr


async def test_the_settings_show_no_secret() -> None:
    url = f"postgresql://user:{TOKEN}@localhost/tracker"
    settings = Settings(github_token=SecretStr(TOKEN), database_url=SecretStr(url))
    async with open_github(settings) as client:
        shown = [str(settings), repr(settings), settings.model_dump_json(), repr(vars(client))]
    assert TOKEN not in "".join(shown)
