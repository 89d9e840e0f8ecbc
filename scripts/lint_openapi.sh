#!/bin/sh
# Lints the OpenAPI document with Spectral, which npm puts into node_modules; skips without npm.
set -eu
cd "$(dirname "$0")/.."

SPECTRAL=@stoplight/spectral-cli@6.16.3
SPECTRAL_PROGRAM=node_modules/.bin/spectral

skip() {
    echo "skipped: $1" >&2
    exit 0
}

if [ ! -x "$SPECTRAL_PROGRAM" ]; then
    command -v npm >/dev/null || skip "npm is missing, which would install the linter Spectral"
    # A registry that is silent is given up after a minute; by itself, npm waits for a quarter hour.
    npm install --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
        --fetch-timeout=20000 --fetch-retries=1 --silent "$SPECTRAL" >&2 ||
        skip "npm cannot reach its registry, or not install $SPECTRAL"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -c '
import json, sys
from app.main import create_app
from app.settings import Settings
json.dump(create_app(Settings()).openapi(), sys.stdout, indent=1)
' > "$folder/openapi.json"
# The service is self-hosted: nobody can name its address or a person to write to.
cat > "$folder/ruleset.yaml" <<'RULES'
extends: ["spectral:oas"]
rules:
  oas3-api-servers: off
  info-contact: off
RULES
"$SPECTRAL_PROGRAM" lint --fail-severity=warn --ruleset "$folder/ruleset.yaml" "$folder/openapi.json"
