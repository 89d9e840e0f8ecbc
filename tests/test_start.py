"""A start that fails: one line says what is wrong, which setting or variable, and what to do."""

import json

import pytest
from psycopg.conninfo import conninfo_to_dict

from lab.database import new_database, url_of
from lab.service import AS_MODULE, ran, running

SECRET = "hunter2"  # noqa: S105
URL = f"postgresql://u:{SECRET}@127.0.0.1:1/d"
UVICORN = ("-m", "uvicorn", "main:app", "--port", "0")

# What is set, and what the line says: the setting or variable, and what to do.
INVALID: dict[str, tuple[dict[str, str], str, str]] = {
    "an unknown level": ({"LOG_LEVEL": "loud"}, "LOG_LEVEL", "give debug, info"),
    "quotes": ({"GITHUB_TOKEN": f'"{SECRET}"'}, "GITHUB_TOKEN", "remove the quotes"),
    "a password that is not encoded": (
        {"DATABASE_URL": f"postgresql://u:x@@{SECRET}@127.0.0.1:1/d"},
        "DATABASE_URL",
        "percent-encoded",
    ),
    "a parameter of another program": (
        {"DATABASE_URL": f"{URL}?pgbouncer=true"},
        "DATABASE_URL",
        "remove it",
    ),
    "a SOCKS proxy": (
        {"ALL_PROXY": f"socks://u:{SECRET}@127.0.0.1:9", "HTTPS_PROXY": "", "https_proxy": ""}
        | {"NO_PROXY": "", "no_proxy": "", "GITHUB_API_URL": "https://api.github.com"},
        "ALL_PROXY",
        "give an HTTP proxy",
    ),
    "a variable of libpq": ({"PGSSLMODE": SECRET}, "PGSSLMODE", "give disable, allow"),
    "certificates that do not exist": (
        {"SSL_CERT_FILE": "/nowhere"},
        "SSL_CERT_FILE",
        "give a PEM file",
    ),
}
# The same, of what is found out when it connects.
UNUSABLE = {
    "a host that does not resolve": (f"postgresql://u:{SECRET}@nowhere.invalid/d", "resolve host"),
    "a service that is not defined": (f"{URL}?service=nowhere", "definition of service"),
}


def error_lines(stderr: str) -> list[str]:
    """Return what is no information in the log, without the last line of uvicorn."""
    lines = [line for line in stderr.splitlines() if not line.startswith("INFO:")]
    events = [
        json.loads(line) if line.startswith("{") else {"event": line, "level": "error"}
        for line in lines
    ]
    told = [event["event"] for event in events if event["level"] != "info"]
    return [line for line in told if "Application startup failed" not in line]


def line_of_a_failed_start(*command: str, **variables: str) -> str:
    """Return the one line of a service that has to know at once that it cannot start."""
    ended = ran(*command, **variables)
    assert ended.returncode != 0
    assert "waiting for PostgreSQL" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout
    (line,) = error_lines(ended.stderr)
    return line


@pytest.mark.parametrize(("variables", "name", "advice"), INVALID.values(), ids=INVALID)
def test_an_invalid_setting_or_variable_is_named(
    variables: dict[str, str], name: str, advice: str
) -> None:
    line = line_of_a_failed_start(*AS_MODULE, **{"DATABASE_URL": URL, **variables})
    assert line.startswith(f"{name}: ")
    assert advice in line


def test_uvicorn_says_the_same() -> None:
    line = line_of_a_failed_start(*UVICORN, DATABASE_URL=f"postgresql://u:x@@{SECRET}@h/d")
    assert line.startswith("DATABASE_URL: ")


def test_an_address_of_another_machine_is_named() -> None:
    line = line_of_a_failed_start(*AS_MODULE, DATABASE_URL=URL, HOST="192.0.2.1")
    assert "Set HOST to an address of this machine" in line


@pytest.mark.parametrize(("url", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_database_that_cannot_be_used_is_told_at_once(url: str, reason: str) -> None:
    line = line_of_a_failed_start(*AS_MODULE, DATABASE_URL=url)
    assert reason in line
    assert line.endswith("Check DATABASE_URL.")


@pytest.mark.direct
def test_a_wrong_password_is_told_at_once(postgresql: str) -> None:
    parameters = conninfo_to_dict(postgresql)
    if not parameters.get("password"):
        pytest.skip("this PostgreSQL asks for no password")
    line = line_of_a_failed_start(
        *AS_MODULE, DATABASE_URL=url_of({**parameters, "password": SECRET})
    )
    assert "password authentication failed" in line
    assert line.endswith("Check DATABASE_URL.")


def test_a_database_that_does_not_exist_is_told_at_once(postgresql: str) -> None:
    with new_database(postgresql) as url:
        pass
    line = line_of_a_failed_start(*AS_MODULE, DATABASE_URL=url)
    assert line.endswith("does not exist. Check DATABASE_URL.")


def test_a_data_folder_that_cannot_be_written_is_told_at_once() -> None:
    line = line_of_a_failed_start(*AS_MODULE, DATABASE_URL="", DATA_DIR="/dev/null/data")
    assert "Set DATA_DIR to a folder" in line


def test_a_proxy_that_github_does_not_need_stops_nothing(postgresql: str) -> None:
    proxies = {"ALL_PROXY": "socks://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    with new_database(postgresql) as url, running(DATABASE_URL=url, **proxies) as service:
        assert service.serves
