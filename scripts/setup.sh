#!/bin/sh
# Makes .venv hold what the given lock names. If it does already, this takes a moment.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${PYTHON:-}" ] && .venv/bin/python -I scripts/setup.py --check "$1" 2>/dev/null; then
    exit 0
fi
python=$(sh scripts/find-python.sh)
exec "$python" -I scripts/setup.py "$1"
