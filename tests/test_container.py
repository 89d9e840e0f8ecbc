"""The container, as far as it can be told without an engine: what its files say, and its check."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app import PROJECT_DIR
from tests.conftest import Serve

DOCKERFILE = (PROJECT_DIR / "Dockerfile").read_text()
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((PROJECT_DIR / "docker-compose.yml").read_text())
    return services["services"]  # type: ignore[no-any-return]


def test_database_is_that_of_the_brief_on_a_volume(services: dict[str, Any]) -> None:
    db = services["db"]
    major = int(re.fullmatch(r"postgres:(\d+)-alpine", db["image"])[1])  # type: ignore[index]
    # Before 18 the image kept its data elsewhere; a volume in the wrong place keeps nothing.
    assert major >= 18
    assert db["volumes"] == ["data:/var/lib/postgresql"]
    assert "pg_isready" in db["healthcheck"]["test"]
    assert "ports" not in db
    url = re.sub(r"\$\{[A-Z_]+:-(\w+)\}", r"\1", services["api"]["environment"]["DATABASE_URL"])
    assert url == "postgresql://postgres:postgres@db:5432/githubdb"
    assert f"# DATABASE_URL={url}\n" in (PROJECT_DIR / ".env.example").read_text()


def test_api_is_published_to_this_machine_only_and_holds_no_privilege(
    services: dict[str, Any],
) -> None:
    api = services["api"]
    assert api["build"] == "."
    assert api["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert all(port.startswith("127.0.0.1:") for port in api["ports"])
    assert api["read_only"] is True
    assert api["cap_drop"] == ["ALL"]
    assert api["security_opt"] == ["no-new-privileges:true"]


def test_image_does_not_run_as_root_and_gets_signals_itself() -> None:
    (user,) = re.findall(r"^USER (\S+)$", FINAL_STAGE, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert re.search(r'^ENTRYPOINT \["python", "-m", "app"\]$', FINAL_STAGE, re.MULTILINE)


def test_image_and_compose_file_check_health_alike(services: dict[str, Any]) -> None:
    command = re.search(r"^HEALTHCHECK (.*) \\\n +CMD (.+)$", FINAL_STAGE, re.MULTILINE)
    assert command
    check = services["api"]["healthcheck"]
    assert yaml.safe_load(command[2]) == check["test"][1:]
    options = dict(option[2:].split("=") for option in command[1].split())
    assert options == {
        name.replace("_", "-"): str(value) for name, value in check.items() if name != "test"
    }


def test_build_sees_nothing_but_what_the_image_needs() -> None:
    patterns = [
        line
        for line in (PROJECT_DIR / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    shown = {pattern[1:] for pattern in patterns if pattern.startswith("!")} - {"scripts"}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert shown == {name.rstrip("/") for names in copied for name in names.split()}
    assert not shown & {".env", ".git", ".data", ".venv"}
    assert "scripts/*" in patterns
    assert all((PROJECT_DIR / name).exists() for name in shown)


async def check_health(**variables: str) -> tuple[int | None, str]:
    """Run the check as the engine does; returns its status and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", Path("scripts", "healthcheck.py")),
        cwd=PROJECT_DIR,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.parametrize("allowed", ["localhost,127.0.0.1", "tracker.example.org", "*.example.org"])
async def test_service_with_its_database_is_healthy(serve: Serve, allowed: str) -> None:
    async with serve(allowed_hosts=allowed) as client:
        # A proxy that HTTP_PROXY names is for GitHub, not for this.
        proxy = "http://127.0.0.1:9"
        port = str(client.base_url.port)
        health = await check_health(PORT=port, ALLOWED_HOSTS=allowed, HTTP_PROXY=proxy)
        assert health == (0, "")


async def test_service_that_is_away_is_unhealthy(unused_tcp_port: int) -> None:
    status, output = await check_health(PORT=str(unused_tcp_port))
    assert status == 1
    assert output.startswith("The service does not answer: ")


async def test_service_that_answers_anything_else_is_unhealthy(serve: Serve) -> None:
    async with serve() as client:
        status, output = await check_health(PORT=str(client.base_url.port), ALLOWED_HOSTS="wrong")
    assert status == 1
    assert output.startswith("400 ")
