"""Everything that GitHub may answer, correct or broken, as values for `GitHub.script`."""

import asyncio
import gzip
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Literal, Protocol

JSON = "application/json; charset=utf-8"
UNICORN = "<!DOCTYPE html>\n<html><head><title>Unicorn!</title></head><body>No</body></html>\n"
CHUNK = 64 * 1024


class Stream(Protocol):
    """What an answer can do with its connection."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """Close the connection after what was written."""

    def abort(self) -> None:
        """Reset the connection."""


Wire = Callable[[Stream, bytes, bytes], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """One answer; without a status, the one that the stand-in would give by itself.

    The headers stand beside GitHub's usual ones (None leaves one out), or alone if `bare`.
    `{base}` in a header becomes the address of the stand-in, `{foreign}` that of another host.
    The body is sent as it is (bytes, str) or as JSON (anything else).
    """

    status: int | None = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: object = b""
    delay: float = 0.0
    bare: bool = False
    wire: Wire | None = None

    def content(self) -> bytes:
        """Return the body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


ORDINARY = Answer(status=None)


def ordinary(*, delay: float = 0.0) -> Answer:
    """Answer as the stand-in does without a script, after `delay` seconds."""
    return replace(ORDINARY, delay=delay)


def http_date(seconds_from_now: float) -> str:
    """Return a moment as an HTTP date."""
    return formatdate(time.time() + seconds_from_now, usegmt=True)


def not_found() -> Answer:
    """Say that there is no such repository, or none that the caller may see."""
    url = "https://docs.github.com/rest/repos/repos#get-a-repository"
    return Answer(404, body={"message": "Not Found", "documentation_url": url, "status": "404"})


def bad_credentials() -> Answer:
    """Refuse the token."""
    url = "https://docs.github.com/rest"
    body = {"message": "Bad credentials", "documentation_url": url, "status": "401"}
    return Answer(401, body=body)


def forbidden(message: str = "Resource not accessible by integration") -> Answer:
    """Refuse for a reason that is neither a limit nor a block."""
    return Answer(
        403, body={"message": message, "documentation_url": "https://docs.github.com/rest"}
    )


def blocked(reason: str = "dmca", status: int | None = None) -> Answer:
    """Say that the repository was taken down (dmca 451, tos and unavailable 403)."""
    block = {
        "reason": reason,
        "created_at": "2021-04-22T17:53:56Z",
        "html_url": f"https://github.com/{reason}",
    }
    body = {"message": "Repository access blocked", "block": block}
    return Answer(status or (451 if reason == "dmca" else 403), body=body)


def redirect(location: str | None, status: int = 301) -> Answer:
    """Point to a path, a URL, `{base}/repositories/1`, `{foreign}/repos/o/r`, or nowhere."""
    url = "https://docs.github.com/rest/guides/using-the-rest-api#follow-redirects"
    body = {"message": "Moved Permanently", "url": location, "documentation_url": url}
    return Answer(status, {"Location": location}, body)


def rate_limited(reset_in: float | None = 600, status: int = 403) -> Answer:
    """Report the primary limit as exhausted; without `reset_in` it names no time of its reset."""
    reset = None if reset_in is None else str(int(time.time() + reset_in))
    message = (
        "API rate limit exceeded for 192.0.2.1. (But here's the good news: Authenticated requests "
        "get a higher rate limit. Check out the documentation for more details.)"
    )
    url = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api"
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    return Answer(status, headers, {"message": message, "documentation_url": url})


def secondary_limit(
    retry_after: int | str | None = None,
    via: Literal["header", "body", "abuse", "url", "gh-limited-by", "nothing"] = "header",
    status: int = 403,
) -> Answer:
    """Report a secondary limit so that one sign alone tells it from a refusal.

    The signs: a Retry-After of seconds, an HTTP date or "" (60 if None), the message of today,
    the message of 2018, the address of the documentation, GitHub's own header, or the status only.
    """
    headers: dict[str, str | None] = {}
    body = {"message": "Please wait.", "documentation_url": "https://docs.github.com/rest"}
    if via == "header" or retry_after is not None:
        headers["Retry-After"] = str(60 if retry_after is None else retry_after)
    if via == "body":
        body["message"] = "You have exceeded a secondary rate limit. Please wait a few minutes."
    elif via == "abuse":
        body["message"] = "You have triggered an abuse detection mechanism. Please wait."
    elif via == "url":
        body["documentation_url"] += "/overview/rate-limits#about-secondary-rate-limits"
    elif via == "gh-limited-by":
        headers["gh-limited-by"] = "search-elapsed-time-shared-grouped"
    return Answer(status, headers, body)


def html(status: int = 503, labelled: str = JSON) -> Answer:
    """Send a page for people, labelled as JSON by default."""
    return Answer(status, {"Content-Type": labelled}, UNICORN)


def silence() -> Answer:
    """Send nothing, and keep the connection open."""

    async def wire(_out: Stream, _head: bytes, _body: bytes) -> None:
        await asyncio.get_running_loop().create_future()

    return Answer(wire=wire)


def hang_up(*, reset: bool = False) -> Answer:
    """Close, or reset, the connection before the first byte."""

    async def wire(out: Stream, _head: bytes, _body: bytes) -> None:
        (out.abort if reset else out.close)()

    return Answer(wire=wire)


def farewell(of: Answer = ORDINARY) -> Answer:
    """Answer correctly and then close the connection without having announced it."""

    async def wire(out: Stream, head: bytes, body: bytes) -> None:
        out.write(head + body)
        out.close()

    return replace(of, wire=wire)


def cut(of: Answer = ORDINARY) -> Answer:
    """Close the connection in the middle of the body."""

    async def wire(out: Stream, head: bytes, body: bytes) -> None:
        out.write(head + body[: len(body) // 2])
        out.close()

    return replace(of, wire=wire)


def drip(interval: float, of: Answer = ORDINARY, *, head_too: bool = False) -> Answer:
    """Send the body (or the head too) one byte at a time."""

    async def wire(out: Stream, head: bytes, body: bytes) -> None:
        slowly = head + body if head_too else body
        out.write(b"" if head_too else head)
        for byte in slowly:
            await asyncio.sleep(interval)
            out.write(bytes([byte]))

    return replace(of, wire=wire)


def lie(by: int, of: Answer = ORDINARY) -> Answer:
    """Announce a body that is longer (then send no more) or shorter than the one that is sent."""

    async def wire(out: Stream, head: bytes, body: bytes) -> None:
        told = b"Content-Length: %d" % (len(body) + by)
        out.write(re.sub(rb"Content-Length: \d+", told, head) + body)
        if by > 0:
            await asyncio.get_running_loop().create_future()
        out.close()

    return replace(of, wire=wire)


def garbage() -> Answer:
    """Send something that is not HTTP."""

    async def wire(out: Stream, _head: bytes, _body: bytes) -> None:
        out.write(b"\x15\x03\x01\x00\x02\x02\x50 this is not HTTP\r\n\r\n")
        out.close()

    return Answer(wire=wire)


def chunked(of: Answer = ORDINARY, *, cut_off: bool = False) -> Answer:
    """Send the body in chunks instead of announcing its length; `cut_off` leaves out the last."""

    async def wire(out: Stream, head: bytes, body: bytes) -> None:
        out.write(re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head))
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            out.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        if cut_off:
            out.close()
        else:
            out.write(b"0\r\n\r\n")

    return replace(of, wire=wire)


def huge(size: int = 5_000_000, *, announced: bool = False) -> Answer:
    """Send valid JSON of that many bytes, its length announced or not."""
    answer = Answer(body=b'{"id": 1, "padding": "%b"}' % (b"x" * (size - 24)))
    return answer if announced else chunked(answer)


def gzip_bomb(megabytes: int = 64) -> Answer:
    """Send a small body that unpacks to many megabytes."""
    body = gzip.compress(b" " * (megabytes << 20), 9)
    return Answer(headers={"Content-Encoding": "gzip"}, body=body)
