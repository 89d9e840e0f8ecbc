"""A clock to put forward, a client that goes by it, and another host."""

from collections.abc import AsyncIterator

import pytest

from app.services.github.client import GitHub
from lab.github.server import GitHub as StandIn
from tests.services.conftest import Ask
from tests.services.github.support import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def patient(ask: Ask, clock: Clock) -> AsyncIterator[GitHub]:
    """Open a client that waits by the clock of the test."""
    async with ask(clock=clock) as client:
        yield client


@pytest.fixture
async def elsewhere() -> AsyncIterator[StandIn]:
    """Serve another stand-in, which nobody may ask."""
    async with StandIn.serve() as elsewhere:
        elsewhere.generate = True
        yield elsewhere
        assert elsewhere.count == 0
