"""A GitHub that cannot be reached, as a user and an operator of the service meet it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from lab.github.answers import Answer, Stream
from lab.github.server import ANY, GitHub
from lab.service import running

TOKEN = "ghp_very5ecret"  # noqa: S105
LOOPBACK = "127.0.0.1"
Told = tuple[httpx.Response, list[str], str]
# A certificate that signed itself, for 127.0.0.1, and its key.
UNTRUSTED = Path(__file__).parents[2] / "support" / "untrusted.pem"


@asynccontextmanager
async def untrusted_server() -> AsyncIterator[str]:
    """Serve TLS with a certificate that nobody trusts; yield the address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(UNTRUSTED)
    server = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, ssl=context)
    async with server:
        yield f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def proxy(asked: list[str]) -> AsyncIterator[str]:
    """Serve a proxy that notes the first line of each request; yield the address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().rstrip())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK)
    async with server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


async def track(database_url: str, github_url: str, **more: str) -> Told:
    """Track a repository at this GitHub.

    Returns the answer, the reasons of failed connections in the log, and the whole log.
    """
    settings = {"DATABASE_URL": database_url, "GITHUB_API_URL": github_url, "GITHUB_TOKEN": TOKEN}
    with running(**settings, **more) as service:
        body = {"owner": "a", "repo_name": "b"}
        async with httpx.AsyncClient(timeout=20) as client:
            response = await client.post(f"{service.url}/repos", json=body)
        service.stop()
        lines: list[dict[str, Any]] = [
            json.loads(line) for line in service.written.splitlines() if line.startswith("{")
        ]
        failures = [line for line in lines if line["event"] == "github connection failed"]
        return response, [line["reason"] for line in failures], service.written


async def test_a_certificate_that_is_not_trusted_is_tried_once_and_explained(
    database_url: str,
) -> None:
    async with untrusted_server() as url:
        response, reasons, written = await track(database_url, url)
    assert (response.status_code, response.json()["type"]) == (502, "/problems/github-unavailable")
    assert "certificate is not trusted" in response.json()["detail"]
    assert "Try again" not in response.json()["detail"]
    assert len(reasons) == 1
    assert "self-signed certificate" in reasons[0]
    assert TOKEN not in written


async def test_the_log_says_that_a_name_does_not_resolve(database_url: str) -> None:
    response, reasons, written = await track(database_url, "https://nowhere.invalid")
    try:
        await asyncio.get_running_loop().getaddrinfo("nowhere.invalid", 443)
    except OSError as error:
        expected = str(error)
    assert (response.status_code, response.json()["type"]) == (502, "/problems/github-unavailable")
    assert reasons == [expected] * 2
    assert TOKEN not in written


async def test_the_log_does_not_repeat_what_a_server_sends(
    database_url: str, github: GitHub
) -> None:
    async def echo(out: Stream, _head: bytes, _body: bytes) -> None:
        out.write(f"{TOKEN} is not HTTP\r\n\r\n".encode())
        out.close()

    github.token = TOKEN
    github.script(ANY, Answer(wire=echo), repeat=True)
    response, reasons, written = await track(database_url, github.url)
    assert (response.status_code, reasons) == (502, ["RemoteProtocolError"] * 2)
    assert TOKEN not in written


async def test_github_is_asked_through_the_proxy_for_its_address(database_url: str) -> None:
    asked: list[str] = []
    url = "http://github.invalid"
    async with proxy(asked) as address:
        variables = {"HTTP_PROXY": address, "HTTPS_PROXY": "socks://nowhere", "NO_PROXY": ""}
        response, reasons, _ = await track(database_url, url, **variables)
        assert (response.status_code, reasons) == (404, [])
        assert asked == [f"GET {url}/repos/a/b HTTP/1.1"]
        variables["NO_PROXY"] = "github.invalid"
        response, reasons, _ = await track(database_url, url, **variables)
    assert (response.status_code, len(reasons), len(asked)) == (502, 2, 1)
