"""The services of docker-compose.yml and the stand-in for GitHub, run by docker compose."""

import csv
import json
import os
import re
import secrets
import shlex
import subprocess
from pathlib import Path
from typing import Any, Self

from app import PROJECT_DIR
from app.embedded.cluster import free_port
from tests.support.promises import SELECT, Row

HERE = Path(__file__).resolve().parent
# Seconds allowed for a command, and for building the image.
PATIENCE = 120
PATIENCE_TO_BUILD = 400


class Failed(Exception):
    """A command that ended with another status than 0; the message has its last lines."""


def command(*words: str, patience: float = PATIENCE, **variables: str) -> str:
    """Run a program and return what it prints. Raise Failed if it fails."""
    done = subprocess.run(
        words,
        cwd=PROJECT_DIR,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise Failed(f"{shlex.join(words)}: status {done.returncode}: {' | '.join(lines)}")
    return done.stdout


class Stack:
    """The services; its containers, image and volume are removed at the end."""

    def __init__(self, scratch: Path) -> None:
        self.name = f"tracker-test-{os.getpid()}"
        self.token = "ghp_" + secrets.token_hex(18)
        self.password = secrets.token_hex(12)
        self.port, self.github_port = free_port(), free_port()
        dockerfile = (PROJECT_DIR / "Dockerfile").read_text()
        (self.base,) = re.findall(r"^ARG BASE=(.+)$", dockerfile, re.MULTILINE)
        self._variables = {
            "TEST_PROJECT": str(PROJECT_DIR),
            "TEST_PYTHON_IMAGE": self.base,
            "TEST_GITHUB_PORT": str(self.github_port),
            "GITHUB_TOKEN": self.token,
            "GITHUB_API_URL": "http://github:8000",
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": self.password,
            "POSTGRES_DB": "githubdb",
            "ALLOWED_HOSTS": "",
            "WORKERS": "",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
            "PORT": str(self.port),
        }
        # Empty, so that the project's own .env does not count.
        self._settings = scratch / "env"
        self._settings.touch()

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def github_url(self) -> str:
        """The address of the stand-in for GitHub, from this machine."""
        return f"http://127.0.0.1:{self.github_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.compose("down", "--volumes", "--rmi=local", "--remove-orphans", "--timeout=5")

    def compose(self, *words: str, patience: float = PATIENCE) -> str:
        """Run docker compose."""
        files = [
            f"--file={path}" for path in (PROJECT_DIR / "docker-compose.yml", HERE / "compose.yml")
        ]
        options = ["--project-name", self.name, "--env-file", str(self._settings)]
        return command(
            "docker", "compose", *options, *files, *words, patience=patience, **self._variables
        )

    def build(self) -> None:
        """Build the image."""
        self.compose("build", "api", patience=PATIENCE_TO_BUILD)

    def up(self) -> None:
        """Start all services, and wait until they are healthy."""
        self.compose("up", "--detach", "--wait", "--no-build")

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a container."""
        (container,) = self.compose("ps", "--all", "--quiet", service).split()
        (answer,) = json.loads(command("docker", "inspect", container))
        return dict(answer)

    def size(self, image: str) -> int:
        """Return the bytes of an image."""
        (answer,) = json.loads(command("docker", "image", "inspect", image))
        return int(answer["Size"])

    def inside(self, service: str, *words: str, root: bool = False) -> str:
        """Run a program in a container."""
        user = ["--user=0"] if root else []
        return self.compose("exec", "-T", *user, service, *words)

    def logs(self) -> str:
        """Return all that the services wrote since their containers were made."""
        return self.compose("logs", "--no-color")

    def rows(self) -> list[Row]:
        """Return all rows of the database, asked in its container."""
        options = ["--username=postgres", "--dbname=githubdb", "--csv", "--tuples-only"]
        lines = self.inside("db", "psql", *options, f"--command={SELECT}").splitlines()
        return [
            Row(key or None, owner, name, int(stars) if stars else None, link or None)
            for key, owner, name, stars, link in csv.reader(lines)
        ]
