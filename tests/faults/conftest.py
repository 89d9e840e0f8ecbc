"""What the tests of faults share; they take minutes, so they run only if they are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.github.server import ANY, GitHub

pytest.register_assert_rewrite("tests.faults.floods", "tests.faults.postgresql")

PLENTY = 10**9


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless their folder is named, as `make test-faults` does."""
    return None if any("faults" in argument for argument in config.args) else True


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    """A GitHub that has every repository, and no limit, until a test changes that."""
    with GitHub.in_thread() as github:
        github.generate = True
        github.keep_calls = False
        github.anonymous.limit = github.remaining = PLENTY
        yield github
        assert github.violations == []


@pytest.fixture
def github_recovers(github: GitHub) -> Iterator[None]:
    """GitHub answers as usual again after the test."""
    yield
    github.script(ANY)
    github.latency = 0.0
