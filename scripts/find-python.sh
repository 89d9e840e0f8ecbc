#!/bin/sh
# Prints the name of a Python that is new enough and can set up .venv, or fails with one sentence
# that says what to install. If $PYTHON is set, no other one is tried.
set -eu
cd "$(dirname "$0")/.."

minor=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\)"$/\1/p' pyproject.toml)
probe="
import sys
try:
    import venv
    try:
        import pip
    except ImportError:
        import ensurepip
    state = 'good'
except ImportError:
    state = 'bare'
if sys.version_info < (3, $minor):
    state = 'old'
print('%s %d.%d' % ((state,) + tuple(sys.version_info[:2])))
"

reason="there is no python3 on the PATH"
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    # A version manager may have a python3.12 on the PATH that refuses to run.
    answer=$("$candidate" -E -s -c "$probe" 2>/dev/null) || continue
    version=${answer#* }
    case $answer in
        good*)
            echo "$candidate"
            exit 0
            ;;
        bare*)
            # On Debian and Ubuntu, ensurepip is in a package of its own.
            [ "$candidate" = python3 ] && package=python3-venv || package=python$version-venv
            echo "$candidate has no venv module, or neither pip nor ensurepip: apt install $package" \
                "(or what your system calls these modules)." >&2
            exit 1
            ;;
    esac
    case $reason in there*) reason="$candidate is $version" ;; esac
done
[ -n "${PYTHON:-}" ] && case $reason in there*) reason="$PYTHON does not run" ;; esac
echo "This project needs Python 3.$minor or newer, and $reason: install one" \
    "(with its venv module), or name one that you have, as in make run PYTHON=python3.12." >&2
exit 1
