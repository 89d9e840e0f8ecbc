"""Every recorded answer of GitHub, replayed through the running service."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from lab.github.server import GitHub
from tests.conftest import Serve
from tests.support.recordings import Recording, payloads, recordings, recordings_available

pytestmark = pytest.mark.skipif(not recordings_available, reason="no recordings beside the project")

TOKEN = "ghp_very5ecret"  # noqa: S105


@pytest.fixture
async def elsewhere(github: GitHub) -> AsyncIterator[GitHub]:
    """Serve another host, to which redirects may point and which nobody may ask."""
    async with GitHub.serve() as elsewhere:
        github.foreign = elsewhere.url
        yield elsewhere
        assert elsewhere.count == 0


def named(recording: Recording) -> str:
    return recording.id


async def ask(client: httpx.AsyncClient, github: GitHub, recording: Recording) -> httpx.Response:
    """Make the request that the recording answers: a POST, or a PUT of a record."""
    body = {"owner": recording.requested_owner, "repo_name": recording.requested_name}
    if recording.requested_id is None:
        recording.play(github)
        return await client.post("/repos", json=body)
    recording.prepare(github)
    created = await client.post("/repos", json=body)
    assert (created.status_code, created.json()["stars"]) == (201, 1)
    recording.play(github)
    return await client.put(created.headers["location"])


def all_that_is_stored(rows: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    found = rows.execute(
        "SELECT owner, repo_name, stars FROM repositories JOIN github_links ON id = repository_id"
    )
    return [dict(zip(("owner", "repo_name", "stars"), row, strict=True)) for row in found]


@pytest.mark.parametrize("recording", recordings(), ids=named)
async def test_a_recorded_answer_leads_to_what_it_means(
    serve: Serve,
    github: GitHub,
    elsewhere: GitHub,
    rows: psycopg.Connection[Any],
    recording: Recording,
) -> None:
    token = TOKEN if recording.conditional else None
    github.token = token
    async with serve(github_token=token) as client:
        response = await ask(client, github, recording)
        body = response.json()
        assert response.status_code == recording.expected_status, body
        if recording.stored is None:
            assert response.headers["content-type"] == "application/problem+json"
            assert body["type"] == f"/problems/{problem_type(recording)}"
            put = recording.requested_id is not None
            assert len(all_that_is_stored(rows)) == put
        else:
            assert body == {"id": body["id"], **recording.stored}
            assert all_that_is_stored(rows) == [recording.stored]
            assert (await client.get(f"/repos/{body['id']}")).json() == body
        if recording.retry_after is None:
            assert "retry-after" not in response.headers
        else:
            assert int(response.headers["retry-after"]) in recording.retry_after
            assert body["retry_after"] == int(response.headers["retry-after"])
    if recording.conditional and recording.status == 304:
        assert "if-none-match" in github.calls[-1].headers


def problem_type(recording: Recording) -> str:
    """Return the type of problem that the verdict on a recording names."""
    match recording.expected.split()[:2]:
        case ["502", "refused"]:
            return "github-refused"
        case ["502", "unavailable"]:
            return "github-unavailable"
        case ["502", *_]:
            return "github-bad-answer"
        case ["503", *_]:
            return "github-rate-limited"
        case ["404", *_]:
            return "not-on-github"
    raise AssertionError(recording.expected)


async def test_every_real_repository_is_tracked_and_refreshed_as_it_is_described(
    serve: Serve, github: GitHub, rows: psycopg.Connection[Any]
) -> None:
    assert len(payloads()) == 88
    github.token = TOKEN
    async with serve(github_token=TOKEN) as client:
        for recording in payloads():
            created = await ask(client, github, recording)
            assert created.status_code == 201, recording.id
            record = {"id": created.json()["id"], **(recording.stored or {})}
            assert created.json() == record
            ((number,),) = rows.execute("SELECT github_id FROM github_links").fetchall()
            github.script(f"/repositories/{number}", recording.answers[0][1])
            refreshed = await client.put(created.headers["location"])
            assert (refreshed.status_code, refreshed.json()) == (200, record)
            assert (await client.get(created.headers["location"])).json() == record
            # Some have the name, or the number, that another had in another year.
            removed = await client.delete(created.headers["location"])
            assert removed.status_code == 204
