"""What the tests of the services do again and again."""

import asyncio
from typing import Any

import httpx2 as httpx
import psycopg

from lab.github.server import GitHub
from lab.github.world import GitHubRepository

Rows = psycopg.Connection[Any]
Record = tuple[Any, ...]

TOKEN = "ghp_very5ecret"  # noqa: S105


def stored(rows: Rows) -> dict[str, tuple[str, int, int]]:
    """Return id, stars and GitHub's number of each record, by its name."""
    query = (
        "SELECT owner || '/' || repo_name, id::text, stars, github_id"
        " FROM repositories JOIN github_links ON id = repository_id"
    )
    return {name: (key, stars, number) for name, key, stars, number in rows.execute(query)}


def everything(rows: Rows) -> list[Record]:
    """Return all that is stored."""
    query = "SELECT * FROM repositories FULL JOIN github_links ON id = repository_id ORDER BY id"
    return rows.execute(query).fetchall()


async def post(client: httpx.AsyncClient, full_name: str) -> httpx.Response:
    """Ask the service to track a repository."""
    owner, _, name = full_name.partition("/")
    return await client.post("/repos", json={"owner": owner, "repo_name": name})


async def put(client: httpx.AsyncClient, key: str, **headers: str) -> httpx.Response:
    """Ask the service to refresh a record."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(f"/repos/{key}", headers=named)


async def track(
    client: httpx.AsyncClient, github: GitHub, full_name: str, stars: int = 0
) -> tuple[str, GitHubRepository]:
    """Track a repository that is new to GitHub too; return the record's id and the repository."""
    owner, _, name = full_name.partition("/")
    known = github.add(owner, name, stars=stars)
    response = await post(client, full_name)
    assert response.status_code == 201
    return response.json()["id"], known


def trade(github: GitHub, *circle: GitHubRepository) -> None:
    """Let each repository take the name of the next."""
    names = [(one.owner, one.name) for one in circle]
    for number, one in enumerate(circle):
        github.rename(one, "on-the-way", str(number))
    for one, name in zip(circle, [*names[1:], names[0]], strict=True):
        github.rename(one, *name)


def as_github_says(rows: Rows, github: GitHub) -> None:
    """Assert that each record is what GitHub says of it."""
    for name, (_, stars, number) in stored(rows).items():
        assert (github.ids[number].full_name, github.ids[number].stars) == (name, stars)


async def somebody_waits_for_a_lock(rows: Rows) -> None:
    """Wait until a connection of the service is held up by a lock."""
    async with asyncio.timeout(4):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while rows.execute(f"{waiting} AND datname = current_database()").fetchone() == (0,):
            await asyncio.sleep(0.01)
            rows.execute("SELECT pg_stat_clear_snapshot()")


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the type of a problem."""
    return response.status_code, response.json()["type"].removeprefix("/problems/")
