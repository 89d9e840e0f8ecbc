"""What the tests of storms and failures share: callers who remember, and a PostgreSQL to harm."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2 as httpx
import psycopg

from app.embedded.server import Server, free_port
from tests.support.github import GitHub
from tests.test_main import AS_MODULE, Service

# Seconds within which every request has its answer, whatever happens.
PROMISED = 5.5
# Caller and service share a machine that may be loaded: both may have to wait for a processor.
MARGIN = 1.0
# Seconds that the service has to notice that PostgreSQL is back.
RECOVERY = 3.0
# Longer than any promise, so that a broken one is seen for what it is.
PATIENCE = 15.0
CALLERS = 16
PAUSE = 0.04
POLL = 0.02

AWAY = "/problems/database-unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to; the status is 0 where the connection was lost."""

    method: str
    path: str
    started: float
    ended: float
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started

    @property
    def is_problem(self) -> bool:
        """Whether it is a problem of RFC 9457 that is right about itself."""
        return (
            self.headers.get("content-type") == "application/problem+json"
            and isinstance(self.body, dict)
            and {"type", "title", "status", "detail", "instance"} <= self.body.keys()
            and self.body["status"] == self.status
            and self.body["instance"] == self.path
        )

    @property
    def is_database_away(self) -> bool:
        """Whether it says, as it should, that PostgreSQL is away."""
        return (
            self.status == 503
            and self.is_problem
            and self.body["type"] == AWAY
            and self.headers.get("retry-after", "").isdecimal()
        )


@dataclass(slots=True)
class Record:
    """A repository of one caller, and what may be stored of it: its stars, None for nothing."""

    owner: str
    name: str
    id: str | None = None
    possible: set[int | None] = field(default_factory=lambda: {None})

    @property
    def full_name(self) -> str:
        """Return owner/name."""
        return f"{self.owner}/{self.name}"

    def body(self, stars: int) -> dict[str, Any]:
        """Return the body of an answer about it."""
        return {"id": self.id, "owner": self.owner, "repo_name": self.name, "stars": stars}


class Load:
    """Callers who track, read, refresh and untrack repositories of their own while inside.

    Each remembers what it was told. What was refused may have been done, but whole or not at all.
    """

    def __init__(self, url: str, github: GitHub, *, may_be_cut_off: bool = False) -> None:
        self.answers: list[Answer] = []
        self.broken: list[str] = []
        self.records: list[Record] = []
        self.url = url
        self._github = github
        self._may_be_cut_off = may_be_cut_off
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Begin."""
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Let every caller have its last answer."""
        self._stopping = True
        await asyncio.gather(*self._callers)
        await self._client.aclose()

    def successes(self, *, after: float = 0.0) -> Counter[str]:
        """Count what was done since a time, by method."""
        return Counter(
            answer.method
            for answer in self.answers
            if 200 <= answer.status < 300 and answer.started >= after
        )

    async def do(self, each: int) -> None:
        """Wait until everything was done so many times more."""
        begun = time.monotonic()
        while len(done := self.successes(after=begun)) < 4 or min(done.values()) < each:
            assert time.monotonic() - begun < 4 * PATIENCE, f"{done} in a minute"
            assert not any(caller.done() for caller in self._callers)
            await asyncio.sleep(POLL)

    async def _call(self) -> None:
        while not self._stopping:
            number = len(self.records)
            record = Record(f"caller-{number % 50}", f"repository-{number}")
            self.records.append(record)
            await self._track(record)
            if record.id is None:
                continue
            await self._read(record)
            await self._refresh(record)
            await self._read(record)
            if number % 3 == 0:
                await self._untrack(record)
                await self._read(record)

    async def _track(self, record: Record) -> None:
        stars = self._at_github(record)
        record.possible.add(stars)
        reference = {"owner": record.owner, "repo_name": record.name}
        for attempt in range(1, 1000):
            if self._stopping and attempt > 1:
                return
            answer = await self._ask("POST", "/repos", reference)
            if answer.status == 201:
                record.id = answer.body["id"]
            elif answer.status == 409 and attempt > 1:
                record.id = answer.body["repository_id"]
            else:
                self._expect_refusal(answer)
                continue
            record.possible = {stars}
            if answer.status == 201:
                self._expect(answer, record.body(stars))
            return

    async def _refresh(self, record: Record) -> None:
        stars = self._at_github(record, gained=1)
        answer = await self._ask("PUT", f"/repos/{record.id}")
        if answer.status == 200:
            record.possible = {stars}
            self._expect(answer, record.body(stars))
        else:
            record.possible.add(stars)
            self._expect_refusal(answer)

    async def _read(self, record: Record) -> None:
        answer = await self._ask("GET", f"/repos/{record.id}")
        if answer.status == 200:
            expected = [record.body(stars) for stars in record.possible if stars is not None]
            self._expect(answer, *expected)
        elif answer.status != 404 or None not in record.possible:
            self._expect_refusal(answer)

    async def _untrack(self, record: Record) -> None:
        answer = await self._ask("DELETE", f"/repos/{record.id}")
        if answer.status == 204:
            record.possible = {None}
        else:
            record.possible.add(None)
            self._expect_refusal(answer)

    def _at_github(self, record: Record, *, gained: int = 0) -> int:
        found = self._github.look_up(record.full_name)
        assert found is not None
        assert not isinstance(found, int)
        found.stars += gained
        return found.stars

    def _expect(self, answer: Answer, *expected: dict[str, Any]) -> None:
        if answer.body not in expected:
            self.broken.append(f"{answer}, not one of {expected}")

    def _expect_refusal(self, answer: Answer) -> None:
        if answer.is_database_away or (answer.status == 0 and self._may_be_cut_off):
            return
        self.broken.append(f"unexpected: {answer}")

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        # A caller who was cut off does not try again at once.
        cut_off = bool(self.answers) and self.answers[-1].status == 0
        await asyncio.sleep((0.2 if cut_off else PAUSE) * random.uniform(0.5, 1.5))  # noqa: S311
        answer = await ask(self._client, method, f"{self.url}{path}", body)
        self.answers.append(answer)
        return answer

    def __str__(self) -> str:
        """Say it in figures."""
        statuses = Counter(answer.status for answer in self.answers)
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        unsure = sum(len(record.possible) > 1 for record in self.records)
        return (
            f"{len(self.answers)} answers ({counts}), worst {self.worst():.2f} s; "
            f"{self.successes().total()} acknowledged, {unsure} records unsure"
        )

    def worst(self) -> float:
        """Return how long the slowest answer took."""
        return max((answer.seconds for answer in self.answers if answer.status), default=0.0)

    def recovery(self, ready: float) -> float:
        """Return how long after this time the last request began that was refused."""
        return max(
            (a.started - ready for a in self.answers if not 200 <= a.status < 500), default=0
        )


async def ask(client: httpx.AsyncClient, method: str, url: str, body: Any = None) -> Answer:
    """Make a request and note what it came to."""
    started, path = time.monotonic(), httpx.URL(url).path
    try:
        response = await client.request(method, url, json=body)
    except httpx.TimeoutException:
        return Answer(method, path, started, time.monotonic(), -1, "no answer at all")
    except httpx.TransportError as error:
        return Answer(method, path, started, time.monotonic(), 0, repr(error))
    ended = time.monotonic()
    said = response.json() if response.content else None
    return Answer(method, path, started, ended, response.status_code, said, dict(response.headers))


def tell(text: object) -> None:
    """Write figures where `pytest -rP` or `-s` shows them."""
    sys.stdout.write(f"{text}\n")


def assert_promises_held(load: Load, url: str, *, ready: float) -> None:
    """Every answer was in time and right, the service recovered, and all is stored as it was told.

    `url` is that of the database, `ready` the time when that was well again.
    """
    recovery = load.recovery(ready)
    tell(f"{load}; last refusal {max(recovery, 0.0):.2f} s after PostgreSQL was ready")
    assert load.broken == []
    assert load.worst() < PROMISED + MARGIN
    assert recovery < RECOVERY
    assert_stored(load.records, url)


def connections(url: str) -> int:
    """Count the connections that the service has to this database."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'github-repository-tracker'"
        ).fetchone() or (-1,)
        return int(count)


def assert_stored(records: list[Record], url: str) -> None:
    """Every record is in the database as its caller was told, whole, and nothing else is."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT r.id::text, owner, repo_name, stars, l.repository_id::text "
            "FROM repositories r FULL JOIN github_links l ON l.repository_id = r.id"
        ).fetchall()
    halves = [row for row in rows if row[0] is None or row[4] is None]
    assert halves == []
    stored = {f"{owner}/{name}": (found, stars) for found, owner, name, stars, _ in rows}
    assert len(stored) == len(rows)
    told = {record.full_name: record for record in records}
    assert stored.keys() <= told.keys()
    lost = [
        (record, stored.get(name))
        for name, record in told.items()
        if stored.get(name, (None, None))[1] not in record.possible
        or (name in stored and stored[name][0] != (record.id or stored[name][0]))
    ]
    tell(f"{len(rows)} records stored, of {len(told)} asked for; {len(lost)} not as promised")
    assert lost == []


async def is_writable(url: str) -> bool:
    """Whether this PostgreSQL takes a connection and a write."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2)
    except psycopg.Error:
        return False
    async with connection:
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS probe (n int)")
            await connection.execute("INSERT INTO probe VALUES (1)")
        except psycopg.Error:
            return False
    return True


async def until(
    condition: Callable[[], object], otherwise: str, seconds: float = 2 * PATIENCE
) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(POLL)


async def until_writable(url: str) -> float:
    """Wait for PostgreSQL itself; return the time when it was ready."""
    deadline = time.monotonic() + 2 * PATIENCE
    while not await is_writable(url):
        assert time.monotonic() < deadline, "PostgreSQL did not come back"
        await asyncio.sleep(POLL)
    return time.monotonic()


# Processes


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may still wait for its parent's notice."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def children(parent: int) -> list[int]:
    """Return the processes that this one started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent …; the name may hold anything.
            state, mother = path.read_text().rpartition(")")[2].split()[:2]
            if int(mother) == parent and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def processes(folder: Path) -> dict[int, str]:
    """Return the processes whose command line names this folder: supervisor and PostgreSQL."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            pid = int(path.parent.name)
            if str(folder) in command and is_alive(pid):
                found[pid] = command
    return found


@contextmanager
def frozen(parent: int) -> Iterator[None]:
    """Stop a process, and those that it started, where they are while inside."""
    stopped: list[int] = []
    try:
        send(signal.SIGSTOP, parent)  # Before the others, or it would start more of them.
        stopped = [parent, *children(parent)]
        send(signal.SIGSTOP, *stopped)
        yield
    finally:
        send(signal.SIGCONT, *stopped)


def send(number: signal.Signals, *pids: int) -> None:
    """Send a signal to those that still run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def folder_for_postgresql() -> Iterator[Path]:
    """Make a folder that PostgreSQL's user can reach; no process of it is left in the end."""
    with tempfile.TemporaryDirectory(prefix="tracker-faults-") as name:
        parent = Path(name)
        parent.chmod(0o711)
        try:
            yield parent / "data"
            wait_for_end(parent)
        finally:
            for pid in processes(parent):
                os.kill(pid, signal.SIGKILL)


def wait_for_end(folder: Path, seconds: float = PATIENCE) -> None:
    """Wait until no process uses the folder."""
    deadline = time.monotonic() + seconds
    while left := processes(folder):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(POLL)


@dataclass
class Embedded:
    """The PostgreSQL that the service runs for itself in this folder."""

    folder: Path

    def published(self) -> dict[str, Any]:
        """Return what its supervisor says of it; nothing while it is not ready."""
        with suppress(FileNotFoundError):
            published: dict[str, Any] = json.loads((self.folder / "server.json").read_bytes())
            return published
        return {}

    @property
    def url(self) -> str:
        """Its URL, which stays the same."""
        state = json.loads((self.folder / "connection.json").read_bytes())
        return f"postgresql://tracker:{state['password']}@127.0.0.1:{state['port']}/tracker"


class OwnPostgreSQL:
    """A PostgreSQL of the tests' own on one port, which nobody supervises."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o711)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._server = Server(folder, self._lock)
        self._server.prepare()
        self.url = Embedded(folder).url
        self.start()

    def start(self) -> None:
        """Start it; it ends with the thread that does so."""
        self._process: subprocess.Popen[bytes] = self._server.start()

    async def stop(self) -> None:
        """Ask it to end every session at once, and wait for its end."""
        self._process.send_signal(signal.SIGINT)
        await until(lambda: self._process.poll() is not None, "PostgreSQL did not stop")

    def wait(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + 2 * PATIENCE
        while not self._server.is_ready(self._process.pid):
            assert time.monotonic() < deadline, self._server.log.read_text()[-2000:]
            time.sleep(POLL)

    @property
    def pid(self) -> int:
        """The process that starts all others."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)
        os.close(self._lock)


@contextmanager
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """Run a PostgreSQL of the tests' own while inside."""
    with ExitStack() as stack:
        server = OwnPostgreSQL(stack.enter_context(folder_for_postgresql()))
        stack.callback(server.close)
        server.wait()
        yield server


def said(service: Service, words: str) -> int:
    """Count the lines of the service's log that have these words."""
    return sum(words in line for line in service.log)


def assert_nothing_unforeseen(service: Service) -> None:
    """The service never met what it did not expect."""
    log = "".join(service.log)
    assert "unforeseen error" not in log
    assert "Traceback" not in log
    assert "Task exception was never retrieved" not in log


@contextmanager
def serving(*, workers: int = 1, **settings: str) -> Iterator[Service]:
    """Run the service while inside, on a port that is known before it says so."""
    port = str(free_port(0))
    service = Service(AS_MODULE, {**settings, "PORT": port, "WORKERS": str(workers)})
    service.url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while said(service, "startup complete") < workers:
            assert service.process.poll() is None, "".join(service.log)
            assert time.monotonic() < deadline, "".join(service.log)
            time.sleep(POLL)
        yield service
    finally:
        service.stop()


@asynccontextmanager
async def loaded(url: str, github: GitHub, *, may_be_cut_off: bool = False) -> AsyncIterator[Load]:
    """Put a service under load while inside, which begins when all is in full swing."""
    async with Load(url, github, may_be_cut_off=may_be_cut_off) as load:
        await load.do(20)
        yield load
