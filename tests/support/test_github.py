"""The stand-in for GitHub does what GitHub does, and sees what GitHub would not forgive."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from . import answers
from .answers import Answer
from .github import ANY, GitHub
from .process import github_process

HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "tracker/1",
}
RIGHT = "right"
TOKEN = {"Authorization": f"Bearer {RIGHT}"}


@pytest_asyncio.fixture
async def github() -> AsyncIterator[GitHub]:
    """Serve a world with one repository."""
    async with GitHub.serve() as github:
        github.add("FastAPI", "FastAPI", stars=90_000, id=160_919_119)
        yield github


@pytest_asyncio.fixture
async def client(github: GitHub) -> AsyncIterator[httpx2.AsyncClient]:
    """Ask as a good client does."""
    async with httpx2.AsyncClient(base_url=github.url, headers=HEADERS, timeout=5) as client:
        yield client


async def raw(github: GitHub, path: str = "/repos/fastapi/fastapi") -> bytes:
    """Return every byte that comes before the stand-in hangs up."""
    reader, writer = await ask(github, path)
    try:
        return await reader.read()
    finally:
        writer.close()


async def ask(github: GitHub, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request and leave the answer to the caller."""
    host = github.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(": ".join(x) for x in HEADERS.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return reader, writer


@pytest.mark.asyncio
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


@pytest.mark.asyncio
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


@pytest.mark.asyncio
async def test_prefers_a_new_repository_to_an_old_name(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """An old name that was taken again belongs to the new repository."""
    github.rename("fastapi/fastapi", "tiangolo", "fastapi")
    other = github.add("fastapi", "fastapi")
    assert (await client.get("/repos/fastapi/fastapi")).json()["id"] == other.id != 160_919_119
    github.remove(other)
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 404


@pytest.mark.asyncio
async def test_knows_nothing_of_what_was_removed(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """A removed repository is gone by name, by old name and by id."""
    github.rename("fastapi/fastapi", "tiangolo", "fastapi")
    github.remove("tiangolo/fastapi")
    for path in ("/repos/fastapi/fastapi", "/repos/tiangolo/fastapi", "/repositories/160919119"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (404, "404")


@pytest.mark.asyncio
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


@pytest.mark.asyncio
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


@pytest.mark.asyncio
async def test_charges_a_wrong_token_to_the_anonymous(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Bad credentials eat the budget of the address."""
    github.token = RIGHT
    answer = await client.get("/repos/fastapi/fastapi", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")
    assert answer.headers["X-RateLimit-Limit"] == "60"
    assert (github.anonymous.remaining, github.remaining) == (59, 5000)


@pytest.mark.asyncio
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
    """A bad request is answered 400 and stays on record."""
    assert (await client.request(method, path, headers=headers)).status_code == 400
    assert len(github.violations) == 1


@pytest.mark.asyncio
async def test_misses_a_token(github: GitHub, client: httpx2.AsyncClient) -> None:
    """Where a token is expected, none is a violation."""
    github.token = RIGHT
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 400
    assert github.violations == ["GET /repos/fastapi/fastapi: no token"]


@pytest.mark.asyncio
async def test_follows_its_script_and_then_its_nature(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Scripted answers come once each, in order, the last again if it repeats."""
    github.script("FastAPI/fastapi", Answer(502), answers.blocked(), answers.forbidden())
    got = [(await client.get("/repos/fastapi/fastapi")).status_code for _ in range(4)]
    assert got == [502, 451, 403, 200]
    github.script(ANY, Answer(500), Answer(410), repeat=True)
    got = [(await client.get(path)).status_code for path in ("/repos/a/b", "/repositories/1")]
    assert [*got, (await client.get("/repos/c/d")).status_code] == [500, 410, 410]


@pytest.mark.asyncio
async def test_shows_one_sign_of_a_secondary_limit(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Each way of saying it stands alone."""
    soon = answers.http_date(8)
    github.script(
        ANY,
        answers.secondary_limit(),
        answers.secondary_limit(soon),
        answers.secondary_limit(via="body"),
        answers.secondary_limit(via="url"),
        answers.secondary_limit(via="gh-limited-by"),
        answers.secondary_limit(via="nothing", status=429),
    )
    said = [await client.get("/repos/fastapi/fastapi") for _ in range(6)]
    assert [one.headers.get("Retry-After") for one in said] == ["60", soon, *[None] * 4]
    assert ["secondary rate limit" in one.text for one in said] == [0, 0, 1, 0, 0, 0]
    assert ["secondary-rate-limits" in one.text for one in said] == [0, 0, 0, 1, 0, 0]
    assert ["gh-limited-by" in one.headers for one in said] == [0, 0, 0, 0, 1, 0]
    assert {one.headers["X-RateLimit-Remaining"] for one in said} == {"60"}


@pytest.mark.asyncio
async def test_points_wherever_it_is_told(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A redirect leads home, abroad, or nowhere."""
    here, abroad = "{base}/repositories/1", "{foreign}/repos/o/r"
    github.script(ANY, *(answers.redirect(where, 307) for where in (here, abroad, None)))
    said = [await client.get("/repos/fastapi/fastapi") for _ in range(3)]
    expected = [f"{github.url}/repositories/1", "https://api.github.invalid/repos/o/r", None]
    assert [one.headers.get("Location") for one in said] == expected


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answers.cut(), httpx2.RemoteProtocolError),
        (answers.hang_up(), httpx2.RemoteProtocolError),
        (answers.hang_up(reset=True), httpx2.ReadError),
        (answers.garbage(), httpx2.RemoteProtocolError),
        (answers.chunked(cut_off=True), httpx2.RemoteProtocolError),
        (answers.silence(), httpx2.ReadTimeout),
        (answers.lie(5), httpx2.ReadTimeout),
        (answers.ordinary(delay=30), httpx2.ReadTimeout),
    ],
)
async def test_breaks_off_as_told(
    github: GitHub, client: httpx2.AsyncClient, answer: Answer, expected: type[Exception]
) -> None:
    """A client fails as it would with a GitHub that is ill, and nothing fails here."""
    github.script(ANY, answer)
    with pytest.raises(expected):
        await client.get("/repos/fastapi/fastapi", timeout=0.2)
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 200
    assert github.violations == []


@pytest.mark.asyncio
async def test_sends_less_than_announced_or_more(github: GitHub) -> None:
    """The bytes on the wire are those that were ordered."""
    github.script(ANY, answers.cut(), answers.lie(-10, Answer(body=b"x" * 20)), answers.hang_up())
    head, _, body = (await raw(github)).partition(b"\r\n\r\n")
    announced = int(head.partition(b"Content-Length: ")[2].split()[0])
    assert len(body) == announced // 2 > 1000
    head, _, body = (await raw(github)).partition(b"\r\n\r\n")
    assert b"Content-Length: 10" in head
    assert len(body) == 20
    assert await raw(github) == b""


@pytest.mark.asyncio
async def test_drips(github: GitHub) -> None:
    """Each byte comes by itself, and a client that leaves ends it."""
    github.script(ANY, answers.drip(0.001, answers.farewell(Answer(body="abc"))))
    reader, writer = await ask(github, "/repos/fastapi/fastapi")
    await reader.readuntil(b"\r\n\r\n")
    assert [await reader.read(10) for _ in range(3)] == [b"a", b"b", b"c"]
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_swells(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A huge body and a bomb are as big as ordered, and HTML may call itself JSON."""
    github.script(ANY, answers.huge(300_000), answers.gzip_bomb(2), answers.html())
    huge, bomb, page = [await client.get("/repos/fastapi/fastapi") for _ in range(3)]
    assert len(huge.content) == 300_000
    assert json.loads(huge.content)["id"] == 1
    assert "Content-Length" not in huge.headers
    assert len(bomb.content) == 2 << 20
    assert int(bomb.headers["Content-Length"]) < 10_000
    assert (page.status_code, page.headers["Content-Type"]) == (503, answers.JSON)
    assert page.text.startswith("<!DOCTYPE html>")


@pytest.mark.asyncio
async def test_holds_answers_until_released(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A crowd can be made to wait at the same time, and nobody sleeps for it."""
    github.remaining = 1000
    github.hold()
    crowd = [asyncio.create_task(client.get("/repos/fastapi/fastapi")) for _ in range(50)]
    await github.called(50)
    assert github.concurrent_peak == github.in_flight == 50
    assert not any(task.done() for task in crowd)
    github.release()
    assert {answer.status_code for answer in await asyncio.gather(*crowd)} == {200}
    assert github.in_flight == 0


@pytest.mark.asyncio
async def test_forgets_a_client_that_leaves(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A call that was given up is neither answered nor in flight."""
    github.hold()
    call = asyncio.create_task(client.get("/repos/fastapi/fastapi"))
    await github.called(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    github.release()
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 200
    assert (github.in_flight, github.violations) == (0, [])


@pytest.mark.asyncio
async def test_closes_after_each_answer(github: GitHub, client: httpx2.AsyncClient) -> None:
    """Keep-alive can be refused."""
    github.close_after_each = True
    assert (await client.get("/repos/fastapi/fastapi")).headers["Connection"] == "close"
    assert (await raw(github)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.asyncio
async def test_answers_requests_that_come_together(github: GitHub) -> None:
    """Requests in one segment are answered in turn."""
    github.script(ANY, answers.ordinary(delay=0.001))
    reader, writer = await ask(github, "/repos/fastapi/fastapi")
    host = github.url.removeprefix("http://")
    writer.write(f"GET /repos/a/b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    said = await reader.read()
    assert (said.count(b"HTTP/1.1 200 OK"), said.count(b"HTTP/1.1 400 Bad Request")) == (1, 1)
    writer.close()


@pytest.mark.asyncio
async def test_may_live_under_a_prefix() -> None:
    """An Enterprise server answers under /api/v3, redirects included."""
    async with (
        GitHub.serve(prefix="/api/v3") as github,
        httpx2.AsyncClient(base_url=github.url, headers=HEADERS) as client,
    ):
        github.add("old", "name")
        github.rename("old/name", "new", "name")
        answer = await client.get("/repos/old/name", follow_redirects=True)
        assert answer.json()["full_name"] == "new/name"
        assert github.paths[0] == "/api/v3/repos/old/name"
        assert github.violations == []


def test_lives_in_a_thread() -> None:
    """Synchronous code can use it too."""
    with GitHub.in_thread() as github, httpx2.Client(headers=HEADERS) as client:
        github.add("o", "r", stars=3)
        assert client.get(f"{github.url}/repos/o/r").json()["stargazers_count"] == 3
        address = f"{github.url}/repos/o/r"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address)


@pytest.mark.asyncio
async def test_waits_for_calls_in_another_thread() -> None:
    """Holding, counting and releasing work across threads."""
    with GitHub.in_thread() as github:
        async with httpx2.AsyncClient(headers=HEADERS) as client:
            github.hold()
            call = asyncio.create_task(client.get(f"{github.url}/repos/o/r"))
            await github.called(1)
            github.add("o", "r")
            github.release()
            assert (await call).status_code == 200


def test_lives_in_a_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A process of its own is steered by HTTP, and makes up what it does not know."""
    index = tmp_path_factory.mktemp("index") / "index.jsonl"
    rows = [(1, "a/b", 10), (2, "A/B", 20), (3, "c/d", 30)]
    names = ("id", "full_name", "stargazers_count")
    index.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    with (
        github_process("--index", str(index)) as github,
        httpx2.Client(base_url=github.url, headers=HEADERS, follow_redirects=True) as client,
    ):
        assert client.get("/repos/a/b").json()["stargazers_count"] == 10
        github.order(stars={"a/b": 11}, rename=["c/d", "e/f"], add={"g/h": 5})
        assert client.get("/repos/a/b").json()["stargazers_count"] == 11
        assert client.get("/repos/c/d").json()["full_name"] == "e/f"
        assert client.get("/repos/x/Y").status_code == 404
        github.order(generate=True, remove="a/b")
        made_up = client.get("/repos/x/Y").json()
        assert made_up["full_name"] == "x/y"
        assert client.get(f"/repositories/{made_up['id']}").json() == made_up
        assert client.get("/repositories/1").status_code == 404
        client.get("/user")
        github.order(remaining=0)
        assert client.get("/repos/x/y").status_code == 403
        report = github.report()
        assert report["calls"] == 10
        assert report["violations"] == ["GET /user: no such route"]
