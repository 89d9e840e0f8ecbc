"""The services of docker-compose.yml, built and started once; skipped without Docker."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.github.process import GitHubProcess
from tests.container.stack import Stack


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests, which take minutes, out unless their folder is named."""
    return None if any("container" in argument for argument in config.args) else True


def answers(*words: str) -> bool:
    """Return whether a command of docker succeeds."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session", autouse=True)
def _docker() -> None:
    if shutil.which("docker") is None or not answers("docker", "info"):
        pytest.skip("no Docker engine answers: install Docker, or start it")
    if not answers("docker", "compose", "version"):
        pytest.skip("Docker answers, but its plugin docker compose is missing")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services, healthy, on an empty volume; each test leaves them so."""
    with Stack(tmp_path_factory.mktemp("compose")) as stack:
        stack.build()
        stack.up()
        yield stack


@pytest.fixture
def github(stack: Stack) -> GitHubProcess:
    """The stand-in for GitHub in its container."""
    return GitHubProcess(stack.github_url)
