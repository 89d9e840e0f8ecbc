"""Floods, slow callers and strangers, against the real process, all of them on loopback."""

import asyncio
import json
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from app.database_url import connection_parameters
from app.services.github import GitHub as GitHubClient
from app.settings import Settings
from tests.support import answers
from tests.support.database import new_database
from tests.support.github import GitHub
from tests.support.process import GitHubProcess
from tests.test_contract import github, service
from tests.test_main import AS_MODULE, Service, ran, running
from tests.test_real_input import Service as WholeService

__all__ = ["github", "service"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
    pytest.mark.timeout(300),
]

MOST_MEMORY = 150  # MB of one worker, whatever comes.
MOST_WAIT = 2.0  # Seconds that somebody else's request takes meanwhile.
PATIENCE = 30.0
CONNECTIONS = 9  # To PostgreSQL, made when they are needed.
LONGEST_REQUEST = 60.0
CROWD = 1000
MB = 1024 * 1024
NOWHERE = "/repos/00000000-0000-4000-8000-000000000000"
HEAD = b"Host: localhost\r\n"
READ = f"GET {NOWHERE} HTTP/1.1\r\n".encode() + HEAD
TRACK = b"POST /repos HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


@dataclass(frozen=True)
class Worker:
    """The process that serves, as the kernel sees it."""

    pid: int

    @property
    def memory(self) -> float:
        """Its resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@dataclass
class Watch:
    """What others saw of the service while it was under siege."""

    waits: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in figures."""
        return (
            f"{len(self.waits)} probes, at most {max(self.waits):.2f} s each; "
            f"memory {self.memory[0]:.0f} MB before, at most {max(self.memory):.0f} MB"
        )


async def until(condition: Callable[[], object], otherwise: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.05)


class Caller(asyncio.Protocol):
    """Sends a request and keeps the answer, even where the connection is reset after it."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answer = b""
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self.answer += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that nothing more will come."""
        self.over.set()


async def ask(service: Service, request: bytes, patience: float = PATIENCE) -> bytes:
    """Return what comes back for these bytes until the service closes the connection."""
    loop = asyncio.get_running_loop()
    caller = Caller(request)
    transport, _ = await loop.create_connection(lambda: caller, "127.0.0.1", service.port)
    try:
        await asyncio.wait_for(caller.over.wait(), patience)
    finally:
        transport.abort()
    return caller.answer


def status(answer: bytes) -> int:
    """Return the status of an answer, 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


@asynccontextmanager
async def besieged(service: Service) -> AsyncIterator[Watch]:
    """Watch, while inside, that others are served and memory is bounded; then, that all is back."""
    worker, watch = Worker(service.process.pid), Watch()
    files = worker.files
    watch.memory.append(worker.memory)

    async def probe() -> None:
        # Not ended by cancel(), which wait_for() of Python 3.11 may swallow.
        while not over.is_set():
            started = time.monotonic()
            answer = await ask(service, READ + b"Connection: close\r\n\r\n")
            watch.waits.append(time.monotonic() - started)
            watch.memory.append(worker.memory)
            assert status(answer) == 404
            assert watch.memory[-1] < 2 * MOST_MEMORY, "it would go on growing"
            await asyncio.sleep(0.05)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        await until(lambda: watch.waits, "nobody was served before it began")
        yield watch
        over.set()
    sys.stdout.write(f"{watch}\n")
    assert max(watch.waits) < MOST_WAIT
    assert max(watch.memory) < MOST_MEMORY
    await until(lambda: worker.files <= files + CONNECTIONS, "connections were left open")
    assert worker.memory < MOST_MEMORY


@pytest.fixture(scope="module", autouse=True)
def _room_for_a_crowd() -> Iterator[None]:
    """Let this process open as many connections as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def crowd(service: Service, size: int = CROWD) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Hold this many connections open while inside."""
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(size):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writers.append(writer)
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def pour(service: Service, begin: bytes, piece: bytes, *, most: int) -> int:
    """Send pieces, reading nothing, until the service hangs up; return how many bytes it took."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    sent = 0
    try:
        writer.write(begin)
        while sent < most:
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), 10)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return sent


def seen(watch: Watch, probes: int = 20) -> Callable[[], bool]:
    """Return whether so many more probes were answered."""
    enough = len(watch.waits) + probes
    return lambda: len(watch.waits) >= enough


# Many callers


async def test_a_thousand_idle_connections_keep_nobody_out(service: Service) -> None:
    async with besieged(service) as watch, crowd(service):
        await until(seen(watch), "nobody else was served")


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
    started = len(request_) - 60  # The rest of it comes drop by drop.
    async with besieged(service) as watch, crowd(service) as writers:
        for writer in writers:
            writer.write(request_[:started])
        for place in range(started, len(request_) - 10):
            for writer in writers:
                writer.write(request_[place : place + 1])
            await until(seen(watch, probes=1), "nobody else was served")


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
    ids=["announced", "chunked", "where none belongs", "of a GET"],
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

    async with besieged(service), asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(send())
    # A caller that goes on sending may see a reset connection instead of the answer.
    assert set(statuses) <= {0, 413 if request_.startswith(b"POST") else 404}
    assert sum(statuses.values()) == CROWD
    sys.stdout.write(f"{statuses}\n")


async def test_callers_who_leave_before_their_answers_come_are_no_error(service: Service) -> None:
    async with besieged(service) as watch:
        for _ in range(10):
            async with crowd(service, 40) as writers:
                for writer in writers:
                    writer.write((READ + b"\r\n") * 20)
                await until(seen(watch, probes=1), "nobody else was served")
    errors = [line for line in service.log if '"level":"error"' in line]
    assert errors == []


async def test_a_hundred_thousand_requests_for_nothing_are_answered(service: Service) -> None:
    connections, each = 20, 5000

    async def read() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for _ in range(each // 10):
            writer.write((READ + b"\r\n") * 10)
            for _ in range(10):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 404 ")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        writer.close()

    async with besieged(service), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(read())


async def test_the_service_ends_when_told_though_callers_hold_it(
    postgresql: str, github: GitHubProcess
) -> None:
    with (
        new_database(postgresql) as url,
        running(DATABASE_URL=url, GITHUB_API_URL=github.url) as service,
    ):
        async with crowd(service, 100) as writers:
            for writer in writers:
                writer.write(TRACK + b"Content-Length: 9\r\n\r\n{")
            assert status(await ask(service, READ + b"Connection: close\r\n\r\n")) == 404
            assert await asyncio.to_thread(service.stop) in {0, -signal.SIGTERM}


async def test_a_thousand_connections_fit_where_few_files_may_be_open(
    postgresql: str, github: GitHubProcess
) -> None:
    """A shell allows 1,024 on Linux and 256 on macOS, unless the program asks for more."""
    limit = "setrlimit(RLIMIT_NOFILE, (256, getrlimit(RLIMIT_NOFILE)[1]))"
    program = (
        f"from resource import *; {limit}; "
        "import runpy; runpy.run_module('app', run_name='__main__', alter_sys=True)"
    )
    with (
        new_database(postgresql) as url,
        running("-c", program, DATABASE_URL=url, GITHUB_API_URL=github.url) as service,
    ):
        async with besieged(service) as watch, crowd(service):
            await until(seen(watch), "nobody else was served")


# One caller who never ends


async def test_callers_who_never_finish_a_request_are_hung_up_on(service: Service) -> None:
    begun = [b"", b"GE", READ, READ + b"X-Padding: ", TRACK + b"Content-Length: 9\r\n\r\n{"]
    async with besieged(service):
        await asyncio.gather(*(ask(service, request, LONGEST_REQUEST) for request in begun))


async def test_pipelined_requests_are_answered_each_in_its_turn(service: Service) -> None:
    paths = [f"/repos/00000000-0000-4000-8000-{number:012}" for number in range(2000)]
    requests = b"".join(f"GET {path} HTTP/1.1\r\n".encode() + HEAD + b"\r\n" for path in paths)
    async with besieged(service):
        last = READ + b"Connection: close\r\n\r\n"
        answers = (await ask(service, requests + last)).split(b"HTTP/1.1 ")[1:]
    instances = [json.loads(answer.partition(b"\r\n\r\n")[2])["instance"] for answer in answers]
    assert instances == [*paths, NOWHERE]


async def test_requests_are_not_heaped_up_for_a_caller_who_reads_no_answers(
    service: Service,
) -> None:
    piece = (READ + b"\r\n") * 1000
    async with besieged(service):
        sent = await pour(service, b"", piece, most=200 * MB)
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
    async with besieged(service):
        sent = await pour(service, begin, piece, most=most)
    assert sent < most


# Strangers

GOOD = b'{"owner": "a", "repo_name": "b"}'
NO_JSON = {
    "nothing": b"",
    "NUL": b"\x00",
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "overlong UTF-8": GOOD.replace(b"a", b"\xc1\xa1"),
    "overlong NUL": GOOD.replace(b"a", b"\xc0\x80"),
    "a surrogate in UTF-8": GOOD.replace(b"a", b"\xed\xa0\x80"),
    "a surrogate, escaped": GOOD.replace(b"a", rb"\ud800"),
    "two surrogates, the wrong way round": GOOD.replace(b"a", rb"\udc00\ud800"),
    "beyond Unicode": GOOD.replace(b"a", b"\xf4\x90\x80\x80"),
    "Latin-1": GOOD.replace(b"a", b"\xe4"),
    "a bare line end in a string": GOOD.replace(b"a", b"a\n"),
    "a bare NUL in a string": GOOD.replace(b"a", b"a\x00"),
    "a tower of brackets": b"[" * 60_000,
    "a tower of objects": b'{"owner":' * 6_000,
    "NaN": b"NaN",
    "a number without an end": b"1" * 60_000,
    "two values": GOOD + GOOD,
    "a member too many": GOOD.replace(b"{", rb'{"\u0000\u202e": 1, '),
    "a name that is a list": GOOD.replace(b'"a"', b'["a"]'),
    "a name that is a number": GOOD.replace(b'"a"', b"1e400"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
ODD_NAMES = {
    "a NUL": "a\0",
    "a bell": "a\a",
    "a delete": "a\x7f",
    "a control character of Latin-1": "a\x9b",
    "a line end within": "a\nb",
    "a carriage return and a header": "a\r\nX-Evil: 1",
    "a byte order mark": "\ufeffa",
    "a right-to-left override": "\u202ea",
    "an isolate": "\u2066a\u2069",
    "a zero-width space": "a\u200b",
    "a zero-width joiner": "a\u200db",
    "a word joiner": "\u2060a",
    "a soft hyphen": "a\u00ad",
    "fullwidth letters": "\uff41\uff42",
    "a fullwidth solidus": "a\uff0fb",
    "a Cyrillic a": "\u0430",
    "a dotless i": "\u0131",
    "a Kelvin sign": "\u212a",
    "a long s": "\u017f",
    "a combining accent": "a\u0301",
    "a tower of accents": "a" + "\u0301" * 90,
    "digits of another script": "\u0661",
    "a tag": "a\U000e0061",
    "a variation selector": "a\ufe0f",
    "an emoji": "\U0001f984",
    "a noncharacter": "\uffff",
    "a private character": "\ue000",
    "a fraction slash": "a\u2044b",
    "one dot leader": "\u2024\u2024",
    "the parent": "..",
    "the parent and more": "../../etc/passwd",
    "the parent, encoded": "..%2f..%2fuser",
    "a slash": "a/b",
    "a backslash": "..\\a",
    "a query": "a?b",
    "a fragment": "a#b",
    "an at sign": "a@b",
    "a colon": "a:b",
    "an encoded NUL": "a%00",
    "a semicolon": "a;b",
    "a template": "{{7*7}}${7*7}",
    "markup": "<script>alert(1)</script>",
    "SQL": "a'; DROP TABLE repositories; --",
}
PATHS = [
    "/repos/../repos/x",
    "/repos/..%2f..%2fetc%2fpasswd",
    "/repos/%2e%2e/docs",
    "/repos/%00",
    "/repos/%ff%fe",
    "/repos/%ed%a0%80",
    "/repos/%c0%ae%c0%ae/",
    "/repos/%e2%80%ae",
    "/repos/%0d%0aX-Evil:%201",
    "/repos/\\..\\..",
    "//evil.test/repos",
    "/repos//",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/repos/{0}",
    "/repos/" + "a" * 8000,
    "/repos/\u0660\u0660\u0660\u0660".encode().decode("latin-1"),
]


@pytest.fixture
def nothing_is_stored(service: Service, github: GitHubProcess) -> Iterator[None]:
    """The test fails if the service asked GitHub for anything; without that it stores nothing."""
    calls = github.report()["calls"]
    yield
    assert github.report()["calls"] == calls


def assert_refused(response: httpx.Response, *statuses: int) -> None:
    """Fail unless this is a problem of one of these statuses."""
    assert response.status_code in statuses
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["status"], response.json()["type"][:10]) == (
        response.status_code,
        "/problems/",
    )


def track(service: Service, body: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(f"{service.url}/repos", content=body, headers=headers)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_good_json_is_refused(service: Service, body: bytes) -> None:
    assert_refused(track(service, body), 422)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("member", ["owner", "repo_name"])
@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_name_that_github_cannot_have_is_refused(
    service: Service, member: str, name: str
) -> None:
    reference = {"owner": "a", "repo_name": "b", member: name}
    assert_refused(track(service, json.dumps(reference).encode()), 422)
    assert_refused(track(service, json.dumps(reference, ensure_ascii=False).encode()), 422)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"owner=a&repo_name=b"),
        ("application/x-www-form-urlencoded", GOOD),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + GOOD + b"\r\n--x--"),
        ("text/plain", GOOD),
        ("text/plain; charset=application/json", GOOD),
        ("text/plain, application/json", GOOD),
        ("application/json, text/plain", GOOD),
        ("application/jsonp", GOOD),
        ("", GOOD),
    ],
)
def test_a_form_of_another_origin_is_refused(
    service: Service, media_type: str, body: bytes
) -> None:
    headers = {"Content-Type": media_type, "Origin": "https://evil.test"}
    answer = track(service, body, **headers)
    assert_refused(answer, 415)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_foreign_host_reads_changes_and_deletes_nothing(
    service: Service, github: GitHubProcess
) -> None:
    name = f"r{uuid4().hex}"
    created = track(service, json.dumps({"owner": "a", "repo_name": name}).encode())
    assert created.status_code == 201
    calls = github.report()["calls"]
    record = f"{service.url}{created.headers['location']}"
    evil = {"Host": "evil.test:80"}
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
        answer = httpx.request(method, record, headers=evil)
        assert answer.status_code == 400
    assert_refused(track(service, GOOD, **evil), 400)
    assert github.report()["calls"] == calls
    assert httpx.get(record).json() == created.json()


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_leads_to_nothing_but_the_api(service: Service, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "POST"):
        head = f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode("latin-1")
        answer = await ask(service, head + HEAD + b"Content-Length: 0\r\n\r\n")
        assert status(answer) in {400, 404, 405, 422}
        assert b"\r\nX-Evil" not in answer
        assert b"root:" not in answer


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("separator", [b"\r\n ", b"\r", b"\n", b"\0", b"\x0b", b"\x85", b"%0d%0a"])
async def test_a_request_id_adds_no_header_to_an_answer(service: Service, separator: bytes) -> None:
    evil = b"X-Request-ID: a" + separator + b"X-Evil: 1\r\n"
    answer = await ask(service, READ + evil + b"Connection: close\r\n\r\n")
    assert status(answer) in {400, 404}
    assert b"x-evil" not in answer.partition(b"\r\n\r\n")[0].lower()


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    "request_",
    [
        READ + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        READ + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\naaaaa",
        READ + b"Content-Length: -1\r\n\r\n",
        READ + b"Content-Length: 99999999999999999999999\r\n\r\n",
        READ + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        READ + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
        READ + b"Transfer-Encoding : chunked\r\n\r\n",
        READ + b" folded: 1\r\n\r\n",
        READ + b"no colon\r\n\r\n",
        READ.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n",
        READ.replace(b"GET", b"G\x00T") + b"\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET http://evil.test/repos HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n",
        b"GET evil HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET ?a HTTP/1.1\r\n" + HEAD + b"\r\n",
    ],
    ids=[
        "two lengths of a body",
        "two values of Content-Length",
        "a negative length",
        "a length beyond all numbers",
        "a chunk beyond all numbers",
        "a coding with a control character",
        "a space before a colon",
        "a folded header first",
        "no colon",
        "HTTP/9.9",
        "NUL in a method",
        "NULs",
        "CONNECT",
        "a proxy's request",
        "no path",
        "a query only",
    ],
)
async def test_what_is_hardly_http_is_refused_with_a_problem(
    service: Service, request_: bytes
) -> None:
    answer = await ask(service, request_)
    assert status(answer) in {400, 404, 405}
    assert b"\r\ncontent-type: application/problem+json\r\n" in answer.lower()


def test_no_stranger_caused_an_error_that_was_not_foreseen(service: Service) -> None:
    """The last of the tests of this process: nothing that came was more than a refusal."""
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    assert [line for line in lines if line["level"] not in {"info", "warning"}] == []
    assert service.process.poll() is None


# Secrets

TOKEN = "ghp_n0body-May-See-This-1"  # noqa: S105
# What GitHub may do to a call that carries the token.
FAILURES = {
    "bad-credentials": answers.bad_credentials(),
    "forbidden": answers.forbidden(),
    "blocked": answers.blocked(),
    "elsewhere": answers.redirect("{foreign}/repositories/1"),
    "nowhere": answers.redirect(None),
    "in-circles": answers.redirect("{base}/repos/a/in-circles"),
    "html": answers.html(),
    "not-http": answers.garbage(),
    "cut": answers.cut(),
    "reset": answers.hang_up(reset=True),
    "huge": answers.huge(),
    "bomb": answers.gzip_bomb(),
    "silence": answers.silence(),
}


def drive_to_failure(service: WholeService, github: GitHub, url: str) -> str:
    """Let everything go wrong that can; return what the callers were told."""
    said: list[str] = []

    def send(method: str, path: str, **more: Any) -> int:
        answer = httpx.request(method, f"{service.url}{path}", timeout=10, **more)
        said.append(f"{answer.headers} {answer.text}")
        return answer.status_code

    def post(name: str) -> int:
        return send("POST", "/repos", json={"owner": "a", "repo_name": name})

    github.add("a", "good")
    github.add("a", "another")
    assert post("good") == 201
    for name, answer in FAILURES.items():
        github.script(f"a/{name}", answer, repeat=True)
        assert post(name) in {404, 502, 504}, name
    with psycopg.connect(**connection_parameters(url), autocommit=True) as connection:
        connection.execute("ALTER TABLE repositories RENAME TO elsewhere")
        assert send("GET", NOWHERE) == 500
        connection.execute("ALTER TABLE elsewhere RENAME TO repositories")
        database = connection.info.dbname
    with psycopg.connect(
        **{**connection_parameters(url), "dbname": "postgres"}, autocommit=True
    ) as connection:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(allow.format(sql.Identifier(database), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [database],
        )
        assert send("GET", NOWHERE) == 503
        assert post("another") == 503
        connection.execute(allow.format(sql.Identifier(database), sql.SQL("true")))
    github.script("a/limited", answers.rate_limited())
    assert [post("limited"), post("limited")] == [503, 503]
    return "".join(said)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_shows_whatever_goes_wrong(
    reachable_path: Path, postgresql: str, log_format: str
) -> None:
    password = connection_parameters(postgresql).get("password") or TOKEN
    with (
        GitHub.in_thread() as github,
        GitHub.in_thread() as elsewhere,
        new_database(postgresql) as url,
    ):
        github.token, github.foreign = TOKEN, elsewhere.url
        settings = {
            "DATABASE_URL": url,
            "GITHUB_TOKEN": TOKEN,
            "LOG_FORMAT": log_format,
            "LOG_LEVEL": "debug",
            "PYTHONDEVMODE": "1",  # Python itself then says what it can, at a crash too.
        }
        service = WholeService(reachable_path / "unused", github.url, **settings)
        try:
            service.wait()
            said = drive_to_failure(service, github, url)
        finally:
            service.end(signal.SIGABRT)
        assert github.violations == []
        assert elsewhere.count == 0
    written = "".join(service.written)
    assert "unforeseen error" in written
    assert "Fatal Python error: Aborted" in written
    assert [secret for secret in (TOKEN, password) if secret in written + said] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"GITHUB_TOKEN": f"{TOKEN} {TOKEN}"},
        {"GITHUB_TOKEN": f"{TOKEN}\u00e9"},
        {"GITHUB_API_URL": f"https://{TOKEN}@api.github.com"},
        {"GITHUB_API_URL": f"https://api.github.com?token={TOKEN}"},
        {"DATABASE_URL": f"mysql://user:{TOKEN}@localhost/tracker"},
        {"DATABASE_URL": f"postgresql://user:{TOKEN}@local host:x/tracker"},
        {"DATABASE_URL": f"postgresql://user:{TOKEN}@127.0.0.1:1/tracker", "PORT": "x"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_without_its_secret(
    settings: dict[str, str],
) -> None:
    ended = ran(*AS_MODULE, **settings)
    assert ended.returncode == 1
    assert TOKEN not in ended.stdout + ended.stderr


def test_the_settings_show_no_secret() -> None:
    url = f"postgresql://user:{TOKEN}@localhost/tracker"
    settings = Settings(github_token=SecretStr(TOKEN), database_url=SecretStr(url))
    client = GitHubClient.open(settings)
    shown = [str(settings), repr(settings), settings.model_dump_json(), repr(vars(client))]
    assert TOKEN not in "".join(shown)
