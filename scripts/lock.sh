#!/bin/sh
# Writes requirements.txt and requirements-dev.txt: the newest of what pyproject.toml names and
# all that it needs, pinned and hashed, for every platform, without the address of any index.
set -eu
cd "$(dirname "$0")/.."

python=$(sh scripts/find-python.sh)
uv=$(command -v uv) || {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$python" -I -m venv "$scratch"
    "$scratch/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv=$scratch/bin/uv
}
resolve() {
    "$uv" pip compile --quiet --upgrade --universal --python "$python" --python-version "$minimum" \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}
minimum=$(sed -n 's/^requires-python = ">=\([0-9.]*\)"$/\1/p' pyproject.toml)
resolve pyproject.toml --output-file requirements.txt
resolve --group dev --constraint requirements.txt pyproject.toml \
    --output-file requirements-dev.txt
