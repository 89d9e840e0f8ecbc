"""What GitHub's rate limit still allows."""

import time
from collections.abc import Callable
from math import ceil

from app.errors import GitHubRateLimited


class Gate:
    """Rejects calls locally while GitHub's rate limit is exhausted."""

    def __init__(self, *, authorized: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._authorized = authorized
        self._clock = clock
        self._opens_at = 0.0

    def close(self, seconds: float) -> None:
        """Stay closed for at least this number of seconds."""
        self._opens_at = max(self._opens_at, self._clock() + seconds)

    def check(self) -> None:
        """Raise GitHubRateLimited while closed."""
        remaining = self._opens_at - self._clock()
        if remaining > 0:
            raise GitHubRateLimited(ceil(remaining), authorized=self._authorized)
