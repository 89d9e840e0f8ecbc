"""Conditional requests, as RFC 9110 section 13 defines them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from app.errors import PreconditionFailed

_ETAG = r'(?:W/)?"[\x20\x21\x23-\x7e\x80-\xff]*"'
_ETAGS = re.compile(_ETAG)
_LIST = re.compile(rf"[ \t,]*{_ETAG}(?:[ \t]*,[ \t,]*{_ETAG})*[ \t,]*")


@dataclass(slots=True)
class Conditions:
    """The request's `If-Match` and `If-None-Match`, as sent, or None."""

    if_match: str | None = None
    if_none_match: str | None = None

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """Return the conditions among the headers of a request; several lines are one list."""
        found: dict[bytes, str] = {}
        for name, value in headers:
            if name in {b"if-match", b"if-none-match"}:
                text = value.decode("latin-1")
                found[name] = f"{found[name]}, {text}" if name in found else text
        return cls(found.get(b"if-match"), found.get(b"if-none-match"))

    def check(self, etag: str) -> None:
        """Raise PreconditionFailed if a record in this state must not be changed."""
        if self.if_match is not None and not _matches(self.if_match, etag, weakly=False):
            raise PreconditionFailed(etag)
        if self.is_current(etag):
            raise PreconditionFailed(etag)

    def is_current(self, etag: str) -> bool:
        """Return whether the client already has the record in this state."""
        if self.if_none_match is None:
            return False
        return self.if_none_match == etag or _matches(self.if_none_match, etag, weakly=True)


def _matches(condition: str, etag: str, *, weakly: bool) -> bool:
    """Return whether `*` or a list of ETags names this one, which is strong.

    A condition that is neither names nothing.
    """
    if condition.strip() == "*":
        return True
    if not _LIST.fullmatch(condition):
        return False
    found = _ETAGS.findall(condition)
    return etag in ((tag.removeprefix("W/") for tag in found) if weakly else found)
