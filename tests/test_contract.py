"""The contract under fuzzing: Schemathesis turns the OpenAPI document against the real process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.database import new_database
from tests.support.process import GitHubProcess, github_process
from tests.test_main import Service, running

OPERATIONS = {
    "POST /repos",
    "GET /repos/{repository_id}",
    "PUT /repos/{repository_id}",
    "DELETE /repos/{repository_id}",
}
PHASES = {"examples", "coverage", "fuzzing", "stateful"}
# What a request may be answered that the document allows: less than Schemathesis would take (any
# 5xx, 401, 403, 429). The conditions of a PUT or DELETE are well-formed text, and need not hold.
CONFIGURATION = """
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 404, 409]

[generation]
database = "none"

[[operations]]
include-method = ["PUT", "DELETE"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 404, 409, 412]
"""
# Seconds; the service promises an answer within five.
LONGEST_ANSWER = 5.5


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubProcess]:
    """A GitHub that has whatever is asked for, and no limit."""
    with github_process("--generate") as github:
        yield github


@pytest.fixture(scope="module")
def service(postgresql: str, github: GitHubProcess) -> Iterator[Service]:
    with (
        new_database(postgresql) as url,
        running(DATABASE_URL=url, GITHUB_API_URL=github.url) as service,
    ):
        yield service


def schemathesis(service: Service, folder: Path, *, examples: int, seed: int) -> dict[str, Any]:
    """Return the report of one run, with what it wrote; the options are those of every check."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = (
        f"run {service.url}/openapi.json --phases {','.join(sorted(PHASES))} --checks all "
        f"--continue-on-failure --max-examples {examples} --seed {seed} --no-color "
        f"--max-response-time {LONGEST_ANSWER} --report json --report-json-path report.json"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (folder / "report.json").exists(), ended.stdout
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {**report, "written": ended.stdout, "exit status": ended.returncode}


def assert_the_contract_held(report: dict[str, Any]) -> None:
    """Fail with what Schemathesis wrote, unless it tried everything and found nothing."""
    written = report["written"]
    assert (report["exit status"], report["failures"], report["errors"]) == (0, [], []), written
    assert {name: phase["status"] for name, phase in report["phases"].items()} == dict.fromkeys(
        PHASES, "success"
    ), written
    assert report["operations"]["tested"] == len(OPERATIONS)
    assert (report["test_cases"]["without_checks"], report["test_cases"]["errored"]) == (0, 0)


def accepted(report: dict[str, Any]) -> dict[str, int]:
    """Return how many valid requests of each operation were carried out, none of them refused."""
    return {
        operation: sum(rate["accepted"] for rate in phases.values())
        for operation, phases in report["valid_rates"].items()
    }


@pytest.mark.timeout(60)
def test_fuzzing_finds_nothing_that_the_document_does_not_say(
    service: Service, github: GitHubProcess, tmp_path: Path
) -> None:
    report = schemathesis(service, tmp_path, examples=60, seed=1)
    assert_the_contract_held(report)
    assert report["test_cases"]["generated"] >= 300
    assert {operation for operation, count in accepted(report).items() if count} == OPERATIONS
    assert github.report()["violations"] == []
    assert httpx.get(f"{service.url}/docs").status_code == 200
