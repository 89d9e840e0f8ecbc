"""A small HTTP client for what wrk cannot do: other answers for each request, POST, exact times."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Self

from lab.bench.servers import TOKEN
from lab.github.server import ACCEPT


@dataclass(frozen=True)
class Answer:
    """The answer to a request; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect to a server on loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, method: str, path: str, body: bytes = b"", *headers: str) -> Answer:
        """Send a request and read the answer."""
        peer = self._writer.get_extra_info("peername")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {peer[0]}:{peer[1]}", *headers]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.partition(":") for line in head[1:-2])
        found = {name.lower(): value.strip() for name, _, value in fields}
        content = await self._reader.readexactly(int(found.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), found, content)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def etags(port: int, ids: list[str]) -> list[str]:
    """Return the ETag of each record."""
    found: list[str] = [""] * len(ids)
    left = iter(range(len(ids)))

    async def read() -> None:
        client = await Client.connect(port)
        for index in left:
            found[index] = (await client.send("GET", f"/repos/{ids[index]}")).headers["etag"]
        client.close()

    await asyncio.gather(*(read() for _ in range(32)))
    return found


_GITHUB_HEADERS = (
    f"Accept: {ACCEPT}",
    "X-GitHub-Api-Version: 2022-11-28",
    "User-Agent: repository-tracker-bench",
    f"Authorization: Bearer {TOKEN}",
)
_numbers = itertools.count(1)


async def ask_github(client: Client) -> None:
    """Ask the stand-in for GitHub itself for a repository that it has not been asked for."""
    path = f"/repos/bench-direct/repository-{next(_numbers)}"
    answer = await client.send("GET", path, b"", *_GITHUB_HEADERS)
    if answer.status != 200:
        raise RuntimeError(f"The stand-in for GitHub answers {answer.status}: {answer.body!r}")


async def track(client: Client) -> int:
    """Have the service track a repository that it does not track yet; return the status."""
    body = f'{{"owner": "bench-tracked", "repo_name": "repository-{next(_numbers)}"}}'
    return (await client.send("POST", "/repos", body.encode())).status
