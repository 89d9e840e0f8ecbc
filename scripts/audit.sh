#!/bin/sh
# Looks up the known vulnerabilities of what requirements.txt pins. It skips, and says why, if
# pip-audit cannot be installed or the index does not know about vulnerabilities.
set -eu
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

skip() {
    echo "skipped: $1" >&2
    exit 0
}

{ .venv/bin/python -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check pip-audit; } >&2 ||
    skip "pip-audit cannot be installed"
# Its exit status says whether it found something; the report says what it could not look up.
status=0
"$folder/venv/bin/pip-audit" --requirement requirements.txt --disable-pip --require-hashes \
    --progress-spinner off --format json > "$folder/report.json" || status=$?
"$folder/venv/bin/python" - "$folder/report.json" "$status" <<'PYTHON'
import json
import pathlib
import sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").strip()
packages = json.loads(text)["dependencies"] if text else []
audited = [package for package in packages if "skip_reason" not in package]
found = [
    f"{package['name']} {package['version']}: {hole['id']} (fixed in {hole['fix_versions']})"
    for package in audited
    for hole in package["vulns"]
]
if not audited:
    print("skipped: the index does not know about vulnerabilities", file=sys.stderr)
elif found:
    print(*found, sep="\n")
    sys.exit(1)
else:
    print(f"{len(audited)} of {len(packages)} packages were looked up: no known vulnerability")
PYTHON
