"""What the tests of faults share; they take minutes, so they run only where they are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github import ANY, GitHub

pytest.register_assert_rewrite(
    *(f"tests.faults.{name}" for name in ("load", "postgresql", "promises", "siege", "support"))
)

PLENTY = 10**9


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless somebody asks for them: `make test-faults`."""
    return None if any("faults" in argument for argument in config.args) else True


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    """A GitHub that has whatever is asked for, and no limit, until a test says otherwise."""
    with GitHub.in_thread() as github:
        github.generate = True
        github.keep_calls = False
        github.anonymous.limit = github.remaining = PLENTY
        yield github
        assert github.violations == []


@pytest.fixture
def peace(github: GitHub) -> Iterator[None]:
    """Whatever a test has all calls suffer is forgotten after it."""
    yield
    github.script(ANY)
    github.latency = 0.0
