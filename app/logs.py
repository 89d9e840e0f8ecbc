"""The log: text for people on a terminal, JSON for programs, one line per event, on stderr."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, Literal

import orjson
import structlog
from structlog.types import EventDict, Processor

LogFormat = Literal["console", "json"]

# Set for each request, and inherited by the tasks that it starts.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def new_request_id() -> str:
    """Return an id for a request that has none; it need not be hard to guess."""
    return f"{getrandbits(128):032x}"


def configure_logging(level: str, log_format: LogFormat | None) -> None:
    """Write the log of this project and of every library to stderr, in one form."""
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [_add_context]
    rendering = _console() if log_format == "console" else _json()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(threshold, shared, rendering)


def _configure_libraries(
    threshold: int, shared: list[Processor], rendering: list[Processor]
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
                _decode,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn").setLevel(threshold)
    # The service writes its own line for each request.
    logging.getLogger("uvicorn.access").propagate = False


def _console() -> list[Processor]:
    # structlog's prettier tracebacks show the values of variables, and some of them are secrets.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
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


def _decode(_logger: Any, _name: str, line: Any) -> str:
    return bytes(line).decode()


def _encode(_logger: Any, _name: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


def _add_context(_logger: Any, name: str, event: EventDict) -> EventDict:
    """Add level, time and request id; in one processor, because every request pays for each."""
    event["level"] = "error" if name == "exception" else name
    event["timestamp"] = datetime.now(UTC)
    if (current := request_id.get()) is not None:
        event.setdefault("request_id", current)
    return event
