"""The benchmark's command: `python -m lab.bench`, `--quick` while developing."""

import argparse
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from app.embedded import joined
from lab.bench import needs, start, writes
from lab.bench.database import Table, filled
from lab.bench.goals import Others, Round, goals
from lab.bench.mechanisms import MECHANISMS
from lab.bench.picture import Bar, draw
from lab.bench.report import names, table_of_costs, table_of_goals, table_of_mechanisms
from lab.bench.rounds import FLOOR, FLOOR_CONNECTIONS, Bench, Sample
from lab.bench.servers import OURS, Kind

HERE = Path(__file__).resolve().parent
ROWS = 1_000_000
FEW_ROWS, MANY_ROWS = 1_000, 10_000_000
PAUSE = 0.05
NOTE = """\
Cost is processor time per request, user and system, of the server and of PostgreSQL together, as
the operating system counts it; that of pgbench itself is left out. It depends little on what else
the machine does, and the ratios, taken within each round, less. Requests per second, p50 and p99
do depend on it: wrk, the server and PostgreSQL share the machine's cores, and each connection asks
again as soon as it is answered."""


def main() -> None:
    """Measure everything, print the tables, and write them with the picture into --output."""
    options = _options()
    needs.require_wrk()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with joined(options.data) as server_url:
            table = filled(server_url, "tracker", ROWS)
            versions = needs.versions(table.version())
            mechanisms = _mechanisms(options, Bench(table, folder, options.seconds))
            if not options.mechanisms:
                kinds, missing = needs.kinds()
                tables = _other_tables(options, server_url)
                rounds = _rounds(options, kinds, table, tables, folder)
                others = _others(options, table, folder)
            known = table.ids(1)[0]
        facts = ", ".join(f"{name} {version}" for name, version in versions.items())
        times = f"{options.rounds} rounds of {options.seconds:g} s"
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        parts = [f"{machine}; {facts}; {times}", mechanisms]
        if not options.mechanisms:
            _say("start")
            others["start"] = start.seconds_to_first_answer(
                options.data, server_url, known, repeats=5
            )
            titles = _titles(kinds)
            costs = table_of_costs(rounds, titles)
            parts[1:1] = [*missing, costs, NOTE, table_of_goals(goals(rounds, Others(**others)))]
            picture = _picture(rounds, titles, f"{machine}; {times}")
            _write(options.output / "cost.svg", picture)
    report = "\n\n".join(parts) + "\n"
    _write(options.output / "report.md", report)
    _say(f"\n{report}\nWritten to {options.output}")


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m lab.bench", description=__doc__)
    add: Any = parser.add_argument
    add("--quick", action="store_true", help="few short rounds, without the 10,000,000 rows")
    add("--mechanisms", action="store_true", help="measure only what each mechanism saves")
    add("--rounds", type=int, help="how often each server has its turn (5; quick: 2)")
    add("--seconds", type=float, help="how long each load lasts (6; quick: 3)")
    add("--data", type=Path, default=HERE / ".data", help="where the databases are kept")
    add("--output", type=Path, default=HERE / "results", help="where the results go")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (3 if options.quick else 6)
    return options


def _other_tables(options: Any, server_url: str) -> dict[str, Table]:
    if options.quick:
        return {}
    sizes = {"-1k": FEW_ROWS, "-10m": MANY_ROWS}
    return {name: filled(server_url, f"bench_{rows}", rows) for name, rows in sizes.items()}


def _rounds(
    options: Any, kinds: Sequence[Kind], table: Table, tables: dict[str, Table], folder: Path
) -> list[Round]:
    bench = Bench(table, folder, options.seconds)
    others = {name: Bench(other, folder, options.seconds) for name, other in tables.items()}
    rounds = []
    for number in range(1, options.rounds + 1):
        samples: list[Sample] = []
        for kind in kinds:
            _say(f"round {number} of {options.rounds}: {kind.title}")
            samples += bench.turn(kind)
        for suffix, other in others.items():
            _say(f"round {number} of {options.rounds}: {OURS.title}, {other.table.rows:,} rows")
            samples += other.turn(OURS, suffix)
        samples.append(bench.floor())
        rounds.append({sample.name: sample for sample in samples})
    return rounds


def _others(options: Any, table: Table, folder: Path) -> dict[str, Any]:
    quick = options.quick
    _say("POST")
    try:
        posts, posts_after_pause = (
            writes.one_by_one(
                table.url,
                latency=latency,
                repeats=2 if quick else 5,
                pairs=20 if quick else 40,
            )
            for latency in (0, PAUSE)
        )
        throughput, failed = writes.throughput(
            table.url, repeats=2 if quick else 5, seconds=2 if quick else 4
        )
    finally:
        table.remove_others()
    requests = 50_000 if quick else 1_000_000
    _say(f"memory after {requests:,} requests")
    memory = Bench(table, folder, options.seconds).memory(requests)
    return {
        "posts": posts,
        "posts_after_pause": posts_after_pause,
        "throughput": throughput,
        "failed_posts": failed,
        "memory": memory,
    }


def _titles(kinds: Sequence[Kind]) -> dict[str, str]:
    titles = {FLOOR: f"PostgreSQL alone, pgbench -M prepared, {FLOOR_CONNECTIONS} connections"}
    for kind in kinds:
        titles |= {kind.name: kind.title, f"{kind.name}-alone": f"{kind.title}, one connection"}
    return titles | {
        "ours-304": f"{OURS.title}, If-None-Match",
        "ours-1k": f"{OURS.title}, {FEW_ROWS:,} rows",
        "ours-10m": f"{OURS.title}, {MANY_ROWS:,} rows",
    }


def _mechanisms(options: Any, bench: Bench) -> str:
    rounds = []
    for number in range(1, options.rounds + 1):
        samples = []
        for kind in (OURS, *(mechanism.kind for mechanism in MECHANISMS)):
            _say(f"round {number} of {options.rounds}: {kind.title}")
            samples.append(bench.cost(kind))
        rounds.append({sample.name: sample for sample in samples})
    return table_of_mechanisms(rounds, MECHANISMS)


def _picture(rounds: Sequence[Round], titles: dict[str, str], about: str) -> str:
    bars = [_bar(rounds, name, titles) for name in names(rounds) if "-" not in name]
    bars.sort(key=lambda bar: bar.total)
    return draw(bars, f"{ROWS:,} rows, 64 connections, one worker; {about}")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _bar(rounds: Sequence[Round], name: str, titles: dict[str, str]) -> Bar:
    samples = [r[name] for r in rounds]
    return Bar(
        titles[name].removesuffix(f", {FLOOR_CONNECTIONS} connections"),
        median(s.server.total / s.load.requests * 1e6 for s in samples),
        median(s.postgres.total / s.load.requests * 1e6 for s in samples),
        name == OURS.name,
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
