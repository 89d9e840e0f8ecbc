"""The contract, put to the test by Schemathesis: how it is run, and what it must find."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.service import Service

OPERATIONS = {
    "POST /repos",
    "GET /repos/{repo_id}",
    "PUT /repos/{repo_id}",
    "DELETE /repos/{repo_id}",
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
