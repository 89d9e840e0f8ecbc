"""The whole service as a user has it: a process, its own PostgreSQL, real repositories."""

import asyncio
import csv
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest

from app.embedded.cluster import free_port
from lab.github.process import GitHubProcess, github_process
from lab.service import Service, embedded_in, running
from tests.support.data_folder import data_folder
from tests.support.recordings import import_list_path, index_path, recordings_available

TOKEN = "ghp_very5ecret"  # noqa: S105
TRACKED = 300
AT_ONCE = 16

needs_recordings = pytest.mark.skipif(
    not recordings_available, reason="no recordings beside the project"
)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder, of which no process may be left in the end."""
    with data_folder() as data:
        yield data


@contextmanager
def running_on(data: Path, github: GitHubProcess) -> Iterator[Service]:
    """Run the service on this folder, on a port that it can tell before it listens."""
    port = str(free_port())
    with running(**embedded_in(data), GITHUB_API_URL=github.url, PORT=port) as service:
        yield service


def wanted() -> list[tuple[str, int]]:
    """Return the first names of the import list that the stand-in knows, and their stars."""
    rows = map(json.loads, index_path.read_text(encoding="utf-8").splitlines())
    known: dict[str, int] = {}
    for row in rows:
        known.setdefault(row["full_name"].lower(), row["stargazers_count"])
    with import_list_path.open(encoding="utf-8", newline="") as lines:
        names = [row["full_name"] for row in csv.DictReader(lines)]
    found = [(name, known[name.lower()]) for name in names if name.lower() in known]
    return found[:TRACKED]


class Caller:
    """A user who makes a few requests at once."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Make one request when it is its turn."""
        async with self._turns:
            return await self._client.request(method, path, json=body)

    async def all(self, method: str, paths: list[str]) -> list[httpx.Response]:
        """Make the same request on many paths."""
        return await asyncio.gather(*(self.ask(method, path) for path in paths))

    async def track(self, names: list[str]) -> list[httpx.Response]:
        """Track repositories."""
        pairs = [name.split("/") for name in names]
        bodies = [{"owner": owner, "repo_name": name} for owner, name in pairs]
        return await asyncio.gather(*(self.ask("POST", "/repos", body) for body in bodies))


def calling(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, timeout=10)


@needs_recordings
async def test_three_hundred_real_repositories_are_tracked_refreshed_and_kept(data: Path) -> None:
    repositories = wanted()
    names = [name for name, _ in repositories]
    assert len(set(names)) == TRACKED
    with github_process("--index", str(index_path)) as github:
        with running_on(data, github) as service:
            async with calling(service) as client:
                caller = Caller(client)
                created = await caller.track(names)
                assert {response.status_code for response in created} == {201}
                records = {one.headers["location"]: one.json() for one in created}
                assert len(records) == TRACKED
                for (name, stars), record in zip(repositories, records.values(), strict=True):
                    assert (full_name(record).lower(), record["stars"]) == (name.lower(), stars)
                await is_kept(caller, records)
                await is_refused_again(caller, names, list(records))
                assert github.report()["calls"] == TRACKED
                await follow_the_stars(caller, github, records)
                gone = list(records)[-50:]
                removed = await caller.all("DELETE", gone)
                assert {response.status_code for response in removed} == {204}
                for path in gone:
                    del records[path]
            assert service.stop() in {0, -signal.SIGTERM}
            assert service.url in service.printed[0]
            assert service.said("Finished server process") == 1

        with running_on(data, github) as service:
            async with calling(service) as client:
                caller = Caller(client)
                await is_kept(caller, records, gone)
                path, record = next(iter(records.items()))
                github.order(rename=[full_name(record), "renamed-owner/renamed-name"])
                record |= {"owner": "renamed-owner", "repo_name": "renamed-name"}
                assert (await caller.ask("PUT", path)).json() == record
                again = await caller.track(names[-50:])
                assert {response.status_code for response in again} == {201}
                await is_kept(caller, records | {a.headers["location"]: a.json() for a in again})
        assert github.report()["violations"] == []


async def is_refused_again(caller: Caller, names: list[str], paths: list[str]) -> None:
    """Assert that each name, in another case, is tracked already, and where."""
    again = await caller.track([name.upper() for name in names])
    assert {response.status_code for response in again} == {409}
    assert [response.headers["location"] for response in again] == paths


async def follow_the_stars(
    caller: Caller, github: GitHubProcess, records: dict[str, dict[str, Any]]
) -> None:
    """Move the stars of every third repository, and refresh all of them."""
    for number, record in enumerate(records.values()):
        if number % 3 == 0:
            record["stars"] += number + 1
    github.order(stars={full_name(record): record["stars"] for record in records.values()})
    refreshed = await caller.all("PUT", list(records))
    assert {response.status_code for response in refreshed} == {200}
    assert [response.json() for response in refreshed] == list(records.values())


def full_name(record: dict[str, Any]) -> str:
    return f"{record['owner']}/{record['repo_name']}"


async def is_kept(
    caller: Caller, records: dict[str, dict[str, Any]], gone: list[str] | None = None
) -> None:
    """Assert that each record is read back as it is, and that none is there that is gone."""
    read = await caller.all("GET", list(records))
    assert [response.json() for response in read] == list(records.values())
    missing = await caller.all("GET", gone or [])
    assert {response.status_code for response in missing} <= {404}


@needs_recordings
async def test_what_was_acknowledged_before_a_kill_is_there_afterwards(data: Path) -> None:
    names = [name for name, _ in wanted()][:100]
    acknowledged: dict[str, dict[str, Any]] = {}
    with github_process("--index", str(index_path)) as github:
        with running_on(data, github) as service:
            async with calling(service) as client:
                caller = Caller(client)

                async def track(name: str) -> None:
                    (response,) = await caller.track([name])
                    assert response.status_code == 201
                    acknowledged[response.headers["location"]] = response.json()
                    if len(acknowledged) == 40:
                        service.process.kill()

                ends = await asyncio.gather(*map(track, names), return_exceptions=True)
                failures = [end for end in ends if end is not None]
                assert failures
                assert all(isinstance(end, httpx.TransportError) for end in failures), failures
            service.stop()

        with running_on(data, github) as service:
            async with calling(service) as client:
                caller = Caller(client)
                await is_kept(caller, acknowledged)
                # What was not acknowledged is there or not, but never in the way.
                rest = await caller.track(names)
                assert {response.status_code for response in rest} <= {201, 409}
                refreshed = await caller.all("PUT", [one.headers["location"] for one in rest])
                assert {response.status_code for response in refreshed} == {200}


async def test_the_token_is_in_nothing_that_the_service_writes(
    data: Path, database_url: str
) -> None:
    with (
        github_process("--token", TOKEN, "--generate") as github,
        running(
            DATABASE_URL=database_url,
            DATA_DIR=str(data),
            GITHUB_API_URL=github.url,
            GITHUB_TOKEN=TOKEN,
            LOG_LEVEL="debug",
        ) as service,
    ):
        async with calling(service) as client:
            caller = Caller(client)
            (created,) = await caller.track([f"a/{uuid4().hex}"])
            assert created.status_code == 201
            path = created.headers["location"]
            github.order(token="another")  # noqa: S106
            refused = [await caller.ask("PUT", path), *(await caller.track(["a/other"]))]
            assert [response.status_code for response in refused] == [502, 502]
            github.order(token=TOKEN)
            assert (await caller.ask("PUT", path)).status_code == 200
            assert (await caller.ask("DELETE", path)).status_code == 204
            said = [f"{one.headers} {one.text}" for one in (created, *refused)]
        service.stop()
        assert service.said("github call")
        assert TOKEN not in service.written + "".join(said)
