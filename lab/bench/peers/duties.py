"""What both peers on FastAPI share: the model, the schema, a request id and a log line."""

import logging
import re
import sys
from hashlib import blake2b
from secrets import token_hex
from time import perf_counter
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("peer")

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Base(DeclarativeBase):
    """The base of the models."""


class Repository(Base):
    """A tracked repository."""

    __tablename__ = "repositories"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(100))
    repo_name: Mapped[str] = mapped_column(String(100))
    stars: Mapped[int] = mapped_column(Integer)

    def etag(self) -> str:
        """Return a strong ETag of what is sent of it."""
        state = f"{self.id}\0{self.owner}\0{self.repo_name}\0{self.stars}".encode()
        return f'"{blake2b(state, digest_size=16).hexdigest()}"'


class RepositoryRead(BaseModel):
    """What is sent."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    owner: str
    repo_name: str
    stars: int


class Duties:
    """Plain ASGI, which is the cheapest way to do this beside FastAPI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 0
        sent = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = sent.decode() if _SANE_REQUEST_ID.fullmatch(sent) else token_hex(16)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            ms = (perf_counter() - started) * 1000
            log.info("%s %s %d %.2f %s", scope["method"], scope["path"], status, ms, request_id)


def configure_logging() -> None:
    """Log to stderr, one line for each event."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
