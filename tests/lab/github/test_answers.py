"""The stand-in for GitHub fails in each way that it is told to."""

import asyncio
import json

import httpx2
import pytest

from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import ANY, GitHub
from tests.lab.github.conftest import HEADERS


async def raw(github: GitHub, path: str = "/repos/fastapi/fastapi") -> bytes:
    """Return every byte that comes until the stand-in closes the connection."""
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


async def test_shows_one_sign_of_a_secondary_limit(
    github: GitHub, client: httpx2.AsyncClient
) -> None:
    """Each sign of the limit stands alone."""
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


async def test_points_wherever_it_is_told(github: GitHub, client: httpx2.AsyncClient) -> None:
    """A redirect leads to this host, to another host, or nowhere."""
    here, abroad = "{base}/repositories/1", "{foreign}/repos/o/r"
    github.script(ANY, *(answers.redirect(where, 307) for where in (here, abroad, None)))
    said = [await client.get("/repos/fastapi/fastapi") for _ in range(3)]
    expected = [f"{github.url}/repositories/1", "https://api.github.invalid/repos/o/r", None]
    assert [one.headers.get("Location") for one in said] == expected


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
    """A client fails as it would with a broken GitHub, and the stand-in does not fail."""
    github.script(ANY, answer)
    with pytest.raises(expected):
        await client.get("/repos/fastapi/fastapi", timeout=0.2)
    assert (await client.get("/repos/fastapi/fastapi")).status_code == 200
    assert github.violations == []


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


async def test_drips(github: GitHub) -> None:
    """Each byte is sent by itself, until the client closes the connection."""
    github.script(ANY, answers.drip(0.001, answers.farewell(Answer(body="abc"))))
    reader, writer = await ask(github, "/repos/fastapi/fastapi")
    await reader.readuntil(b"\r\n\r\n")
    assert [await reader.read(10) for _ in range(3)] == [b"a", b"b", b"c"]
    writer.close()
    await writer.wait_closed()


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


async def test_answers_requests_that_come_together(github: GitHub) -> None:
    """Requests in one segment are answered in turn."""
    github.script(ANY, answers.ordinary(delay=0.001))
    reader, writer = await ask(github, "/repos/fastapi/fastapi")
    host = github.url.removeprefix("http://")
    writer.write(f"GET /repos/a/b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    said = await reader.read()
    assert (said.count(b"HTTP/1.1 200 OK"), said.count(b"HTTP/1.1 400 Bad Request")) == (1, 1)
    writer.close()


async def test_closes_after_each_answer(github: GitHub, client: httpx2.AsyncClient) -> None:
    """Keep-alive can be refused."""
    github.close_after_each = True
    assert (await client.get("/repos/fastapi/fastapi")).headers["Connection"] == "close"
    assert (await raw(github)).startswith(b"HTTP/1.1 200 OK\r\n")
