"""The stand-in for GitHub does what GitHub does, and notes what GitHub would refuse."""

import asyncio
import time

import httpx2
import pytest

from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import ANY, GitHub
from tests.lab.github.conftest import RIGHT, TOKEN


async def test_spells_a_repository_as_its_owner_does(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Any case finds a repository, without a redirect."""
    answer = await client.get("/repos/fastapi/FASTAPI")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["full_name"], body["id"]) == ("FastAPI/FastAPI", 160_919_119)
    assert (body["stargazers_count"], body["owner"]["login"]) == (90_000, "FastAPI")
    assert 4_000 < len(answer.content) < 10_000
    assert answer.headers["Server"] == "github.com"
    assert answer.headers["ETag"].startswith('W/"')
    assert answer.headers["Content-Encoding"] == "gzip"
    assert [call.path for call in github.calls] == ["/repos/fastapi/FASTAPI"]
    assert github.violations == []


async def test_redirects_an_old_name_to_the_id(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A renamed repository is found under its old name, for two requests."""
    github.rename("fastapi/fastapi", "tiangolo", "fastapi")
    answer = await client.get("/repos/FastAPI/FastAPI")
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"{github.url}/repositories/160919119"
    assert answer.json()["url"] == answer.headers["Location"]
    followed = await client.get(answer.headers["Location"])
    assert followed.json()["full_name"] == "tiangolo/fastapi"
    assert github.remaining == 58


async def test_prefers_a_new_repository_to_an_old_name(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """An old name that was taken again belongs to the new repository."""
    github.rename("fastapi/fastapi", "tiangolo", "fastapi")
    other = github.add("fastapi", "fastapi")
    assert (await client.get("/repos/fastapi/fastapi")).json()["id"] == other.id != 160_919_119
    github.remove(other)
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 404


async def test_knows_nothing_of_what_was_removed(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """A removed repository is gone by name, by old name and by id."""
    github.rename("fastapi/fastapi", "tiangolo", "fastapi")
    github.remove("tiangolo/fastapi")
    for path in ("/repos/fastapi/fastapi", "/repos/tiangolo/fastapi", "/repositories/160919119"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (404, "404")


@pytest.mark.parametrize(("token", "left"), [(None, 58), (RIGHT, 4999)])
async def test_charges_an_unchanged_answer_to_the_anonymous(
    github: GitHub, client: httpx2.AsyncClient, token: str | None, left: int
) -> None:
    """A 304 repeats the tag strongly, and is free with a token only."""
    github.token = token
    headers = TOKEN if token else {}
    tag = (await client.get("/repos/fastapi/fastapi", headers=headers)).headers["ETag"]
    conditional = headers | {"If-None-Match": tag}
    answer = await client.get("/repositories/160919119", headers=conditional)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == tag.removeprefix("W/")
    assert answer.headers["X-RateLimit-Remaining"] == str(left)
    github.known("fastapi/fastapi").stars += 1
    changed = await client.get("/repositories/160919119", headers=conditional)
    assert (changed.status_code, changed.json()["stargazers_count"]) == (200, 90_001)


async def test_refuses_more_than_the_limit(github: GitHub, client: httpx2.AsyncClient) -> None:
    """The last request of the hour is answered, and no other."""
    github.remaining = 1
    assert (await client.get("/repos/a/b")).status_code == 404
    answer = await client.get("/repos/fastapi/fastapi")
    assert answer.status_code == 403
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert answer.headers["X-RateLimit-Limit"] == "60"
    assert 3500 < int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 3600
    assert "rate limit exceeded" in answer.json()["message"]
    github.anonymous.reset = 0
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 200


async def test_charges_a_wrong_token_to_the_anonymous(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Bad credentials use up the limit of the address."""
    github.token = RIGHT
    answer = await client.get("/repos/fastapi/fastapi", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")
    assert answer.headers["X-RateLimit-Limit"] == "60"
    assert (github.anonymous.remaining, github.remaining) == (59, 5000)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/repos/fastapi/fastapi", {}),
        ("HEAD", "/repos/fastapi/fastapi", {}),
        ("GET", "/repos/fastapi/fastapi/", {}),
        ("GET", "/repos/fastapi/fastapi?page=1", {}),
        ("GET", "/repos/fastapi/%2e%2e", {}),
        ("GET", "/repos/fastapi/fastapi/stargazers", {}),
        ("GET", "/repositories/x", {}),
        ("GET", "/user", {}),
        ("GET", "/repos/fastapi/fastapi", {"Accept": "*/*"}),
        ("GET", "/repos/fastapi/fastapi", {"X-GitHub-Api-Version": "2000-01-01"}),
        ("GET", "/repos/fastapi/fastapi", {"User-Agent": "python-httpx2/2.0"}),
        ("GET", "/repos/fastapi/fastapi", {"User-Agent": ""}),
        ("GET", "/repos/fastapi/fastapi", {"Host": "api.github.com"}),
        ("GET", "/repos/fastapi/fastapi", {"If-None-Match": "no tag"}),
        ("GET", "/repos/fastapi/fastapi", TOKEN),
    ],
)
async def test_notes_what_no_client_should_send(
    github: GitHub, client: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    """A bad request is answered 400 and noted."""
    assert (await client.request(method, path, headers=headers)).status_code == 400
    assert len(github.violations) == 1


async def test_misses_a_token(github: GitHub, client: httpx2.AsyncClient) -> None:
    """If a token is expected, a request without one is a violation."""
    github.token = RIGHT
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 400
    assert github.violations == ["GET /repos/fastapi/fastapi: no token"]


async def test_follows_its_script_and_then_answers_as_usual(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Scripted answers come once each, in order, the last again if it repeats."""
    github.script("FastAPI/fastapi", Answer(502), answers.blocked(), answers.forbidden())
    got = [(await client.get("/repos/fastapi/fastapi")).status_code for _ in range(4)]
    assert got == [502, 451, 403, 200]
    github.script(ANY, Answer(500), Answer(410), repeat=True)
    got = [(await client.get(path)).status_code for path in ("/repos/a/b", "/repositories/1")]
    assert [*got, (await client.get("/repos/c/d")).status_code] == [500, 410, 410]


async def test_holds_answers_until_released(github: GitHub, client: httpx2.AsyncClient) -> None:
    """Many calls can be made to wait at the same time."""
    github.remaining = 1000
    github.hold()
    calls = [asyncio.create_task(client.get("/repos/fastapi/fastapi")) for _ in range(50)]
    await github.called(50)
    assert github.concurrent_peak == github.in_flight == 50
    assert not any(task.done() for task in calls)
    github.release()
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    assert github.in_flight == 0


async def test_forgets_a_client_that_leaves(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A call that was aborted is neither answered nor in flight."""
    github.hold()
    call = asyncio.create_task(client.get("/repos/fastapi/fastapi"))
    await github.called(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    github.release()
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 200
    assert (github.in_flight, github.violations) == (0, [])
