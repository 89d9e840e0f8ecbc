#!/bin/sh
# Writes requirements.txt and requirements-dev.txt: the newest releases of what pyproject.toml
# names and of all that they need, pinned and hashed, for every platform, without index addresses.
set -eu
cd "$(dirname "$0")/.."

sh scripts/setup.sh requirements-dev.txt
minimum=$(sed -n 's/^requires-python = ">=\([0-9.]*\)"$/\1/p' pyproject.toml)
resolve() {
    .venv/bin/uv pip compile --quiet --upgrade --universal --python .venv/bin/python \
        --python-version "$minimum" --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@"
}
resolve pyproject.toml --output-file requirements.txt
resolve --group dev --constraint requirements.txt pyproject.toml \
    --output-file requirements-dev.txt
