"""Worker processes: started together, replaced if they are killed, stopped together."""

import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import structlog

log = structlog.get_logger(__name__)


def run_workers(
    count: int, work: Callable[[Sequence[socket.socket]], None], listeners: Sequence[socket.socket]
) -> int:
    """Let processes work until SIGTERM or Ctrl-C; return 0, or the status of one that failed.

    A worker that is killed is replaced. One that ends with an error of its own, as one that cannot
    start, ends all: its replacement would fail too.
    """
    stop = _stop_signals()
    workers = [_start(work, listeners) for _ in range(count)]
    status = 0
    while not status and stop not in wait([stop, *(worker.sentinel for worker in workers)]):
        for place, worker in enumerate(workers):
            if worker.exitcode is None:
                continue
            if worker.exitcode > 0:
                status = worker.exitcode
            else:
                log.warning("worker ended", pid=worker.pid, status=worker.exitcode)
                workers[place] = _start(work, listeners)
    # First, or the system would go on accepting connections that nobody serves.
    for listener in listeners:
        listener.close()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
    return status


def _start(
    work: Callable[[Sequence[socket.socket]], None], listeners: Sequence[socket.socket]
) -> BaseProcess:
    process = get_context("spawn").Process(target=work, args=(listeners,))
    process.start()
    return process


def _stop_signals() -> socket.socket:
    """Return a socket that can be read when SIGTERM or SIGINT arrives."""
    reader, writer = socket.socketpair()
    writer.settimeout(0)
    signal.set_wakeup_fd(writer.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader
