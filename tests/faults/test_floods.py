"""Floods and slow callers, against the real process, all of them on loopback."""

import asyncio
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from lab.database import new_database
from lab.github.process import GitHubProcess
from lab.service import Service, running
from tests.faults.floods import MANY, connections, others_are_served, send_endlessly
from tests.faults.raw_http import HEAD, READ, TRACK, ask, status
from tests.support.promises import assert_only_refusals
from tests.support.waiting import tell, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
    pytest.mark.timeout(300),
]

LONGEST_REQUEST = 60.0
MB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def _files_for_many_connections() -> Iterator[None]:
    """Raise the limit of open files to what this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module", autouse=True)
def _nothing_unforeseen(service: Service) -> Iterator[None]:
    """Nothing that was sent caused an error of the service."""
    yield
    assert_only_refusals(service)


async def test_a_thousand_idle_connections_keep_nobody_out(service: Service) -> None:
    async with others_are_served(service) as probes, connections(service):
        await until(probes.more(), "nobody else was served")


@pytest.mark.parametrize(
    "request_",
    [
        READ + b"X-Padding: " + b"a" * 200 + b"\r\n\r\n",
        TRACK + b'Content-Length: 250\r\n\r\n{"owner": "a"' + b" " * 237,
    ],
    ids=["headers", "bodies"],
)
async def test_a_thousand_callers_who_send_a_byte_at_a_time_keep_nobody_out(
    service: Service, request_: bytes
) -> None:
    started = len(request_) - 60  # The rest is sent byte by byte.
    async with others_are_served(service) as probes, connections(service) as writers:
        for writer in writers:
            writer.write(request_[:started])
        for place in range(started, len(request_) - 10):
            for writer in writers:
                writer.write(request_[place : place + 1])
            await until(probes.more(1), "nobody else was served")


@pytest.mark.parametrize(
    "request_",
    [
        TRACK + b"Content-Length: %d\r\n\r\n" % MB + b"a" * MB,
        TRACK
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"8000\r\n%s\r\n" % (b"a" * 0x8000) * (MB // 0x8000)
        + b"0\r\n\r\n",
        READ.replace(b"GET", b"PUT") + b"Content-Length: %d\r\n\r\n" % MB + b"a" * MB,
        READ + b"Content-Length: %d\r\n\r\n" % MB + b"a" * MB,
    ],
    ids=["announced", "chunked", "of a PUT", "of a GET"],
)
async def test_a_thousand_bodies_of_a_megabyte_are_not_kept(
    service: Service, request_: bytes
) -> None:
    request_ = request_.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    statuses: Counter[int] = Counter()
    turns = asyncio.Semaphore(50)

    async def send() -> None:
        async with turns:
            statuses[status(await ask(service, request_))] += 1

    async with others_are_served(service), asyncio.TaskGroup() as group:
        for _ in range(MANY):
            group.create_task(send())
    tell(statuses)
    assert statuses == {413 if request_.startswith(b"POST") else 404: MANY}


async def test_callers_who_leave_before_their_answers_come_are_no_error(service: Service) -> None:
    async with others_are_served(service) as probes:
        for _ in range(10):
            async with connections(service, 40) as writers:
                for writer in writers:
                    writer.write(READ + b"\r\n")
                await until(probes.more(1), "nobody else was served")
    errors = [line for line in service.log if '"level":"error"' in line]
    assert errors == []


async def test_a_hundred_thousand_requests_for_nothing_are_answered(service: Service) -> None:
    connections, each = 20, 5000

    async def read() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for _ in range(each):
            writer.write(READ + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 ")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        writer.close()

    async with others_are_served(service), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(read())


async def test_the_service_ends_when_told_though_callers_are_connected(
    postgresql: str, generous_github: GitHubProcess
) -> None:
    with (
        new_database(postgresql) as url,
        running(DATABASE_URL=url, GITHUB_API_URL=generous_github.url) as service,
    ):
        async with connections(service, 100) as writers:
            for writer in writers:
                writer.write(TRACK + b"Content-Length: 9\r\n\r\n{")
            assert status(await ask(service, READ + b"Connection: close\r\n\r\n")) == 404
            assert await asyncio.to_thread(service.stop) in {0, -signal.SIGTERM}


async def test_a_thousand_connections_are_served_though_few_files_may_be_open(
    postgresql: str, generous_github: GitHubProcess
) -> None:
    """A shell allows 1,024 on Linux and 256 on macOS, if the program does not raise its limit."""
    limit = "setrlimit(RLIMIT_NOFILE, (256, getrlimit(RLIMIT_NOFILE)[1]))"
    program = (
        f"from resource import *; {limit}; "
        "import runpy; runpy.run_module('app', run_name='__main__', alter_sys=True)"
    )
    with (
        new_database(postgresql) as url,
        running("-c", program, DATABASE_URL=url, GITHUB_API_URL=generous_github.url) as service,
    ):
        async with others_are_served(service) as probes, connections(service):
            await until(probes.more(), "nobody else was served")


async def test_callers_who_never_finish_a_request_are_disconnected(service: Service) -> None:
    unfinished = TRACK + b"Content-Length: 9\r\n\r\n"
    begun = [b"", b"GE", READ, READ + b"X-Padding: ", unfinished + b"{"]
    begun.append(READ + b"Content-Length: 9\r\n\r\n{")  # It is answered before its end.
    async with others_are_served(service):
        await asyncio.gather(*(ask(service, request, LONGEST_REQUEST) for request in begun))


async def test_of_pipelined_requests_the_first_is_answered(service: Service) -> None:
    async with others_are_served(service):
        answers = await ask(service, (READ + b"\r\n") * 2000)
    assert (status(answers), answers.count(b"HTTP/1.1 ")) == (404, 1)


async def test_pipelined_requests_without_an_end_are_cut_off(service: Service) -> None:
    piece = (READ + b"\r\n") * 1000
    async with others_are_served(service):
        sent = await send_endlessly(service, b"", piece, most=200 * MB)
    assert sent < 200 * MB


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X-Endless: ", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n" + HEAD, b"X-Another: header\r\n" * 4096),
        (b"GET / HTTP/1.1\r\n" + HEAD, b"a" * 65536),
        (TRACK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: a\r\n" * 4096),
        (TRACK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536),
        (b"", b"\r\n" * 32768),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 65536),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 65536),
    ],
    ids=[
        "path",
        "header",
        "number of headers",
        "name of a header",
        "trailers",
        "extension of a chunk",
        "line ends",
        "HTTP/2",
        "TLS",
    ],
)
async def test_what_never_ends_is_cut_off(service: Service, begin: bytes, piece: bytes) -> None:
    most = 64 * MB
    async with others_are_served(service):
        sent = await send_endlessly(service, begin, piece, most=most)
    assert sent < most
