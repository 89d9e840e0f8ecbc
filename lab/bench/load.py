"""The load: wrk for what speaks HTTP, pgbench for PostgreSQL alone."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.bench.database import ROW_ID

_SCRIPT = Path(__file__).with_name("wrk.lua")
_POINT_READ = f"""\\set n random(1, :rows)
SELECT id, owner, repo_name, stars FROM repositories WHERE id = {ROW_ID.format("(:n)::text")};
"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Load:
    """What a load generator saw; times in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int


def wrk(port: int, targets: Path, *, connections: int, seconds: float) -> Load:
    """Read random records over HTTP; `targets` is a file of ids, or of ids and ETags."""
    address = f"127.0.0.1:{port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s"]
    command += ["-s", str(_SCRIPT), f"http://{address}", "--", str(targets), address]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def pgbench(programs: Path, url: str, rows: int, *, connections: int, seconds: float) -> Load:
    """Read random rows by their key from PostgreSQL itself, with prepared statements."""
    command = [str(programs / "pgbench"), "-n", "-M", "prepared", "-f", "-", "-D", f"rows={rows}"]
    command += ["-c", str(connections), "-j1", "-T", f"{seconds:.0f}", url]
    command[command.index("-")] = "/dev/stdin"
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=_POINT_READ)  # noqa: S603
    transactions = re.search(r"actually processed: (\d+)", done.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    failed = re.search(r"failed transactions: (\d+)", done.stdout)
    if not (transactions and latency and failed):
        raise RuntimeError(f"pgbench said: {done.stdout}")
    average = float(latency[1])
    return Load(int(transactions[1]), seconds, average, float("nan"), int(failed[1]))
