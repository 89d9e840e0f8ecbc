"""The log: text for people on a terminal, JSON for programs, one line per event, on stderr."""

import io
import json
import logging
import os
import select
import stat
import sys
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, Literal

import orjson
import structlog
from structlog.types import EventDict, Processor

LogFormat = Literal["console", "json"]

log = structlog.get_logger(__name__)

# Seconds: a full pipe delays the service by one wait per period, and then loses lines.
WAIT = 0.05
PERIOD = 1.0

# Set for each request, and inherited by the tasks that it starts.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def new_request_id() -> str:
    """Return an id for a request that has none; it need not be hard to guess."""
    return f"{getrandbits(128):032x}"


def configure_logging(level: str, log_format: LogFormat | None) -> None:
    """Write the log of this project and of every library to stderr, in one form."""
    stderr = Stderr()
    if log_format is None:
        log_format = "console" if stderr.isatty() else "json"
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[_add_context, *(_json() if log_format == "json" else _console(stderr))],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: stderr,
        cache_logger_on_first_use=True,
    )
    _configure_libraries(threshold)


class Stderr(io.FileIO):
    """Writes log lines to stderr; drops a line that cannot be written, and counts it.

    A reader that has ended, a full disk or a full pipe must not fail or stop a request.
    """

    def __init__(self) -> None:
        # Python sets sys.stderr to None if it was closed; the file may since be a connection.
        closed = sys.__stderr__ is None
        super().__init__(os.open(os.devnull, os.O_WRONLY) if closed else 2, "w", closefd=closed)
        self._lock = threading.Lock()
        self._dropped = 0
        self._is_cut = False
        self._next_wait = 0.0
        self._poll = None
        if hasattr(select, "poll") and not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self._poll = select.poll()
            self._poll.register(self, select.POLLOUT)

    def log_line(self, line: bytes) -> None:
        """Write a line, and then how many lines before it were dropped."""
        with self._lock:
            if not self._write_whole(line + b"\n"):
                self._dropped += 1
                return
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("log lines were dropped", count=dropped)
            if self._dropped:  # This line too.
                self._dropped += dropped

    # The methods that structlog calls, one for each level.
    debug = info = warning = error = critical = log_line

    def _write_whole(self, line: bytes) -> bool:
        if self._is_cut:
            line = b"\n" + line
        written = 0
        try:
            while written < len(line) and self._has_room():
                count = self.write(line[written : written + select.PIPE_BUF])
                if not count:  # Another program made this terminal or pipe non-blocking.
                    break
                written += count
        except OSError:  # The reader has ended, or the disk is full.
            pass
        self._is_cut = 0 < written < len(line)
        return written == len(line)

    def _has_room(self) -> bool:
        """Return whether a pipe or terminal takes PIPE_BUF bytes, after a short wait at most."""
        if self._poll is None or self._poll.poll(0):
            return True
        if time.monotonic() < self._next_wait:
            return False
        has_room = bool(self._poll.poll(WAIT * 1000))
        self._next_wait = time.monotonic() + PERIOD
        return has_room


class _LibraryHandler(logging.Handler):
    """Passes what libraries log to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # noqa: BLE001  (A library's bad format string must not fail its caller.)
            event = str(record.msg)
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
        log.log(level, event, exc_info=record.exc_info)


def _configure_libraries(threshold: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(max(threshold, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn").setLevel(threshold)
    # The service writes its own line for each request.
    logging.getLogger("uvicorn.access").propagate = False


def _console(stderr: Stderr) -> list[Processor]:
    # structlog's prettier tracebacks show the values of variables, and some of them are secrets.
    renderer = structlog.dev.ConsoleRenderer(
        colors=stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [_format_time, renderer, _encode]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, _to_json]


def _to_json(_logger: Any, _name: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except TypeError:  # Half a surrogate pair, or an integer of more than 64 bits.
        return json.dumps(event, default=str).encode()


def _format_time(_logger: Any, _name: str, event: EventDict) -> EventDict:
    event["timestamp"] = event["timestamp"].isoformat(timespec="milliseconds")
    return event


def _encode(_logger: Any, _name: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


def _add_context(_logger: Any, name: str, event: EventDict) -> EventDict:
    """Add level, time and request id; in one processor, because every request pays for each."""
    event["level"] = "error" if name == "exception" else name
    event["timestamp"] = datetime.now(UTC)
    if (current := request_id.get()) is not None:
        event.setdefault("request_id", current)
    return event
