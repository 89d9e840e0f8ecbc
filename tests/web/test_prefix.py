"""Below a prefix, every address that the service makes begins with it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from lab.database import new_database
from lab.github.process import GitHubProcess
from lab.service import AS_MODULE, Service, running

REFERENCE = {"owner": "fastapi", "repo_name": "fastapi"}
UVICORN = ("-m", "uvicorn", "main:app", "--port", "0")
# How the service is started, and the paths under which a proxy passes a request for it on.
STARTS: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "ROOT_PATH, removed": (AS_MODULE, {"ROOT_PATH": "/tracker"}, ""),
    "ROOT_PATH, left": (AS_MODULE, {"ROOT_PATH": "/tracker/"}, "/tracker"),
    "ROOT_PATH and uvicorn": (UVICORN, {"ROOT_PATH": "/tracker"}, ""),
    "--root-path": ((*UVICORN, "--root-path", "/tracker"), {}, ""),
}


class Proxy:
    """What a reverse proxy asks of the service, and what it gets."""

    def __init__(self, service: Service, path: str) -> None:
        self._url = service.url + path

    def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        """Ask for a path below the prefix."""
        return httpx.request(method, self._url + path, timeout=10, **more)  # type: ignore[arg-type]


@contextmanager
def proxied(postgresql: str, github: GitHubProcess, start: str) -> Iterator[Proxy]:
    command, settings, path = STARTS[start]
    with new_database(postgresql) as url:
        addresses = {"DATABASE_URL": url, "GITHUB_API_URL": github.url}
        with running(*command, **settings, **addresses) as service:
            yield Proxy(service, path)


@pytest.fixture(scope="module", params=STARTS)
def proxy(
    postgresql: str, generous_github: GitHubProcess, request: pytest.FixtureRequest
) -> Iterator[Proxy]:
    """A service behind a proxy at /tracker."""
    with proxied(postgresql, generous_github, request.param) as proxy:
        yield proxy


def test_a_record_is_located_below_the_prefix(proxy: Proxy) -> None:
    first, again = (proxy.ask("POST", "/repos", json=REFERENCE) for _ in range(2))
    location = f"/tracker/repos/{first.json().get('id') or first.json()['repository_id']}"
    assert first.headers["location"] == again.headers["location"] == location
    assert again.json()["detail"] == f"fastapi/fastapi is tracked already: see {location}."
    assert again.json()["instance"] == "/tracker/repos"


def test_the_hint_at_the_documentation_is_below_the_prefix(proxy: Proxy) -> None:
    problem = proxy.ask("GET", "/nowhere").json()
    assert problem["detail"].endswith("The API is described at /tracker/docs.")
    assert problem["instance"] == "/tracker/nowhere"


def test_the_document_says_where_the_api_is(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/openapi.json").json()["servers"] == [{"url": "/tracker"}]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_load_what_is_beside_them(proxy: Proxy, page: str) -> None:
    text = proxy.ask("GET", page).text
    assert 'src="/' not in text
    assert 'href="/' not in text


def test_what_is_not_an_address_is_as_it_was(proxy: Proxy) -> None:
    problem = proxy.ask("GET", "/repos/1").json()
    assert (problem["type"], problem["instance"]) == (
        "/problems/invalid-request",
        "/tracker/repos/1",
    )
