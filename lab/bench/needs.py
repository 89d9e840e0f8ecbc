"""What the benchmark needs beside the project's own environment, and how to get it."""

import json
import shutil
import subprocess
import sys
from importlib import metadata, util

from app import PROJECT_DIR
from lab.bench.servers import (
    ASYNC_SESSION,
    FASTIFY,
    FASTIFY_PIPELINE,
    FASTIFY_POOL,
    OURS,
    SYNC_SESSION,
    Kind,
)

_GET_NODE = "Fastify is left out: install Node.js 20 or newer with npm (apt install nodejs npm)"


def require_wrk() -> None:
    """Exit with a sentence where nothing can be measured."""
    if sys.platform != "linux":
        sys.exit("The benchmark reads processor time from /proc: run it on Linux.")
    if shutil.which("wrk") is None:
        sys.exit("The load generator wrk is missing: install it (apt install wrk), then run again.")


def kinds() -> tuple[list[Kind], list[str]]:
    """Return the servers that can run here, and a sentence for each thing that is missing."""
    found, missing = [OURS], []
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing.append(f"{_GET_NODE}.")
    elif reason := _install_fastify():
        missing.append(f"Fastify is left out: npm install in its folder said: {reason}")
    else:
        found += [FASTIFY_POOL, FASTIFY_PIPELINE]
    if util.find_spec("asyncpg") is None:
        missing.append(
            "The asynchronous session uses psycopg, because asyncpg, which costs it less, is "
            "missing: .venv/bin/uv pip install -r lab/bench/requirements.txt"
        )
    return [*found, ASYNC_SESSION, SYNC_SESSION], missing


def versions(postgres: str) -> dict[str, str]:
    """Return the versions of what takes part."""
    found = {"Python": sys.version.split()[0], "PostgreSQL": postgres}
    found |= {name: metadata.version(name.lower()) for name in ("FastAPI", "uvicorn", "uvloop")}
    if shutil.which("node"):
        wanted = json.loads((FASTIFY / "package.json").read_bytes())["dependencies"]
        found |= {"Node.js": _said_by("node", "--version").removeprefix("v")}
        found |= {"Fastify": wanted["fastify"], "node-postgres": wanted["pg"]}
    return found | {"wrk": _said_by("wrk", "--version").split()[1].removeprefix("debian/")}


def _said_by(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def _install_fastify() -> str:
    """Install what package.json names into an ignored folder; return why that failed, or ''."""
    wanted, installed = FASTIFY / "package.json", FASTIFY / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime > wanted.stat().st_mtime:
        return ""
    sys.stdout.write(f"Installing Fastify into {FASTIFY.relative_to(PROJECT_DIR)}/node_modules …\n")
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=FASTIFY, check=False, capture_output=True, text=True)  # noqa: S603
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or "nothing"
