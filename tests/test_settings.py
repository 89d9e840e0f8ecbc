"""The settings: what each value means, and that invalid ones are refused without their secrets."""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from app import PROJECT_DIR
from app.errors import SettingsError
from app.settings import Settings

ENV_EXAMPLE = PROJECT_DIR / ".env.example"
SECRET = "hunter2"  # noqa: S105

# Setting and invalid value; no message may repeat a value that has SECRET.
INVALID = {
    "another database": ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
    "SQLite": ("DATABASE_URL", "sqlite:///tracker.db"),
    "another scheme that begins alike": ("DATABASE_URL", f"postgresqlx://u:{SECRET}@h/d"),
    "no URL": ("DATABASE_URL", f"host=h user=u password={SECRET}"),
    "a JDBC URL": ("DATABASE_URL", f"jdbc:postgresql://h/d?user=u&password={SECRET}"),
    "a bare password": ("DATABASE_URL", SECRET),
    "white space for a URL": ("DATABASE_URL", "   "),
    "an at sign in a password": ("DATABASE_URL", f"postgresql://u:at@{SECRET}@h/d"),
    "a slash in a password": ("DATABASE_URL", f"postgresql://u:{SECRET}/slash@h/d"),
    "a percent sign in a password": ("DATABASE_URL", f"postgresql://u:{SECRET}%zz@h/d"),
    "a NUL in a password": ("DATABASE_URL", f"postgresql://u:{SECRET}%00@h/d"),
    "a port that is no number": ("DATABASE_URL", f"postgresql://u:{SECRET}@h:port/d"),
    "a port that is too high": ("DATABASE_URL", f"postgresql://u:{SECRET}@h:65536/d"),
    "an unknown parameter": ("DATABASE_URL", f"postgresql://u:{SECRET}@h/d?pool=9"),
    "an unknown sslmode": ("DATABASE_URL", f"postgresql://u:{SECRET}@h/d?sslmode=yes"),
    "a timeout that is no number": (
        "DATABASE_URL",
        f"postgresql://u:{SECRET}@h/d?connect_timeout=x",
    ),
    "half an IPv6 address": ("DATABASE_URL", f"postgresql://u:{SECRET}@[::1/d"),
    "a token of two words": ("GITHUB_TOKEN", f"{SECRET} {SECRET}"),
    "a token of two lines": ("GITHUB_TOKEN", f"{SECRET}\r\nHost: h"),
    "a token beyond ASCII": ("GITHUB_TOKEN", f"{SECRET}é"),
    "an API without a scheme": ("GITHUB_API_URL", "api.github.com"),
    "an API by another scheme": ("GITHUB_API_URL", "ftp://api.github.com"),
    "an API without a host": ("GITHUB_API_URL", "https:///api/v3"),
    "an API with a query": ("GITHUB_API_URL", "https://api.github.com?a=b"),
    "an API with a fragment": ("GITHUB_API_URL", "https://api.github.com#a"),
    "an API with credentials": ("GITHUB_API_URL", f"https://u:{SECRET}@api.github.com"),
    "an API with odd credentials": ("GITHUB_API_URL", f"https://u:{SECRET}\u2100@api.github.com"),
    "an API with a port that is no number": ("GITHUB_API_URL", "http://localhost:port"),
    "an API with a port that is too high": ("GITHUB_API_URL", "http://localhost:65536"),
    "an API with a space": ("GITHUB_API_URL", "https://api github.com"),
    "an API at half an IPv6 address": ("GITHUB_API_URL", "http://[::1"),
    "a port that is a word": ("PORT", "http"),
    "a port below zero": ("PORT", "-1"),
    "a port above all": ("PORT", "65536"),
    "a prefix without a slash": ("ROOT_PATH", "tracker"),
    "a prefix with a space": ("ROOT_PATH", "/my tracker"),
    "a URL for a prefix": ("ROOT_PATH", "https://example.org/tracker"),
    "a name for a proxy": ("FORWARDED_ALLOW_IPS", "proxy"),
    "a network with a host": ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
    "no workers": ("WORKERS", "0"),
    "half a worker": ("WORKERS", "1.5"),
    "an unknown level": ("LOG_LEVEL", "loud"),
    "an unknown format": ("LOG_FORMAT", "xml"),
    "a URL for a host": ("ALLOWED_HOSTS", "https://example.org"),
    "a star within": ("ALLOWED_HOSTS", "a*.example.org"),
    "two stars": ("ALLOWED_HOSTS", "*.*"),
    "no host at all": ("ALLOWED_HOSTS", " , "),
    "a host of two words": ("ALLOWED_HOSTS", "example.org example.com"),
    "a token in quotes": ("GITHUB_TOKEN", f'"{SECRET}"'),
    "a folder in quotes": ("DATA_DIR", "'/srv/data'"),
    "a URL in quotes": ("DATABASE_URL", f'"postgresql://u:{SECRET}@h/d"'),
    "a port in quotes": ("PORT", '"8000"'),
    "nothing in quotes": ("GITHUB_TOKEN", '""'),
    "a value that is not UTF-8": ("GITHUB_TOKEN", f"{SECRET}\udcff"),
    "a user's home that does not exist": ("DATA_DIR", "~no-such-user-here/data"),
}


@pytest.fixture(autouse=True)
def _no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("PG", "SSL")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Return the settings that these environment variables make."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.load(env_file=None)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> SettingsError:
    """Return the error that these environment variables make."""
    with pytest.raises(SettingsError) as raised:
        load(monkeypatch, **variables)
    return raised.value


# Documentation


def explained() -> dict[str, str]:
    """Return the settings of .env.example, set or commented out, with the comment above each."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in ENV_EXAMPLE.read_text().splitlines():
        name, equals, _ = line.removeprefix("#").strip().partition("=")
        if equals and name.isidentifier() and name.isupper():
            found[name] = " ".join(comment)
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        else:
            comment = []
    return found


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_explained_in_the_example(field: str) -> None:
    assert explained().get(field.upper())


def test_the_example_explains_no_setting_that_does_not_exist() -> None:
    assert set(explained()) <= {field.upper() for field in Settings.model_fields}


def test_the_example_has_the_database_url_of_the_brief() -> None:
    lines = [line.removeprefix("#").strip() for line in ENV_EXAMPLE.read_text().splitlines()]
    assert "DATABASE_URL=postgresql://postgres:postgres@db:5432/githubdb" in lines


def test_the_example_is_a_valid_env_file_that_changes_nothing() -> None:
    assert Settings.load(ENV_EXAMPLE) == Settings.load(None)


# Values


def test_the_defaults_are_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.model_dump(exclude={"data_dir"}) == {
        "database_url": None,
        "github_token": None,
        "github_api_url": "https://api.github.com",
        "host": "127.0.0.1",
        "port": 8000,
        "root_path": "",
        "forwarded_allow_ips": "127.0.0.1",
        "workers": 1,
        "log_level": "info",
        "log_format": None,
        "allowed_hosts": ("localhost", "127.0.0.1", "[::1]"),
    }


@pytest.mark.parametrize("field", Settings.model_fields)
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    default = getattr(load(monkeypatch), field)
    assert getattr(load(monkeypatch, **{field.upper(): ""}), field) == default


def test_a_line_of_the_env_file_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8001\nPOSTGRES_PASSWORD=of-another-program\n")
    assert Settings.load(tmp_path / ".env").port == 8001


def test_a_variable_overrides_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8001\n")
    monkeypatch.setenv("PORT", "8002")
    assert Settings.load(tmp_path / ".env").port == 8002


def test_settings_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(monkeypatch).port = 1  # type: ignore[misc]


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", " error "])
def test_a_log_level_may_be_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    assert load(monkeypatch, LOG_LEVEL=level).log_level == level.strip().lower()


@pytest.mark.parametrize("log_format", ["console", "JSON"])
def test_a_log_format_may_be_in_any_case(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    assert load(monkeypatch, LOG_FORMAT=log_format).log_format == log_format.lower()


@pytest.mark.parametrize(
    ("sent", "hosts"),
    [
        ("example.org", ("example.org",)),
        (" Example.org , *.example.com,, [::1]", ("example.org", "*.example.com", "[::1]")),
        ("*", ("*",)),
    ],
)
def test_allowed_hosts_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, sent: str, hosts: tuple[str, ...]
) -> None:
    assert load(monkeypatch, ALLOWED_HOSTS=sent).allowed_hosts == hosts


@pytest.mark.parametrize(
    ("sent", "url"),
    [
        ("https://api.github.com/", "https://api.github.com"),
        (" https://github.example.org/api/v3/ ", "https://github.example.org/api/v3"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_address_of_github_has_no_slash_at_its_end(
    monkeypatch: pytest.MonkeyPatch, sent: str, url: str
) -> None:
    assert load(monkeypatch, GITHUB_API_URL=sent).github_api_url == url


@pytest.mark.parametrize("prefix", ["/tracker", "/tracker/", " /tracker "])
def test_a_prefix_has_no_slash_at_its_end(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    assert load(monkeypatch, ROOT_PATH=prefix).root_path == "/tracker"


@pytest.mark.parametrize("proxies", ["*", "::1", "127.0.0.1, 10.0.0.0/8"])
def test_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch, proxies: str) -> None:
    assert load(monkeypatch, FORWARDED_ALLOW_IPS=proxies).forwarded_allow_ips == proxies


def test_a_token_is_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    token = load(monkeypatch, GITHUB_TOKEN=f" {SECRET}\n").github_token
    assert token is not None
    assert token.get_secret_value() == SECRET


def test_a_token_of_white_space_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, GITHUB_TOKEN=" ").github_token is None  # noqa: S106


def test_a_relative_data_folder_lies_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, DATA_DIR="var/data").data_dir == PROJECT_DIR / "var/data"


def test_a_data_folder_may_lie_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(monkeypatch, DATA_DIR="~/tracker").data_dir == tmp_path / "tracker"


# Invalid values


@pytest.mark.parametrize(("setting", "value"), INVALID.values(), ids=INVALID)
def test_an_invalid_value_is_refused_with_a_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    message = str(refusal(monkeypatch, **{setting: value}))
    assert message.startswith(f"{setting}: ")
    assert len(message.splitlines()) == 1
    assert len(message.removeprefix(f"{setting}: ").split()) >= 4


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("PORT", "http", "give a whole number from 0 to 65535, 0 for any free port"),
        ("PORT", "-1", "give a whole number from 0 to 65535, 0 for any free port"),
        ("PORT", "9" * 5000, "give a whole number from 0 to 65535, 0 for any free port"),
        ("WORKERS", "1.5", "give a whole number from 1 to 256"),
        ("WORKERS", "257", "give a whole number from 1 to 256"),
        ("LOG_LEVEL", "loud", "give debug, info, warning or error"),
        ("LOG_FORMAT", "xml", "give console or json"),
        ("PORT", '"8000"', "remove the quotes around the value"),
    ],
)
def test_a_refusal_says_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, sentence: str
) -> None:
    assert str(refusal(monkeypatch, **{setting: value})) == f"{setting}: {sentence}"


@pytest.mark.parametrize(("setting", "value"), INVALID.values(), ids=INVALID)
def test_no_refusal_is_in_the_words_of_a_library(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    message = str(refusal(monkeypatch, **{setting: value}))
    assert "Input should" not in message
    assert "Value error" not in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [row for row in INVALID.values() if SECRET in row[1]],
    ids=[name for name, (_, value) in INVALID.items() if SECRET in value],
)
def test_a_refusal_repeats_no_secret(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    """Neither does its traceback, if somebody prints it."""
    error = refusal(monkeypatch, **{setting: value})
    assert SECRET not in "".join(traceback.format_exception(error))


def test_all_invalid_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = str(refusal(monkeypatch, PORT="http", WORKERS="many"))
    assert [line.partition(":")[0] for line in message.splitlines()] == ["PORT", "WORKERS"]


# Other variables


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:9"),
        ("https_proxy", "socks5://127.0.0.1:9"),
        ("HTTPS_PROXY", '"http://proxy:3128"'),
        ("HTTPS_PROXY", f"http://u:{SECRET}@proxy:port"),
        ("HTTPS_PROXY", "http://proxy:65536"),
        ("HTTPS_PROXY", "http://:3128"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem"),
        ("SSL_CERT_FILE", str(ENV_EXAMPLE)),
        ("SSL_CERT_DIR", "/nowhere"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
        ("PGSSLMODE", "bogus"),
    ],
)
def test_an_invalid_variable_that_a_library_reads_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    settings = {variable: value, "DATABASE_URL": "postgresql:///d"}
    (line,) = str(refusal(monkeypatch, **settings)).splitlines()
    assert line.startswith(f"{variable}: give ")
    assert value not in line


@pytest.mark.parametrize(
    "variables",
    [
        {"ALL_PROXY": "socks://h", "NO_PROXY": "github.com"},
        {"ALL_PROXY": "socks://h", "NO_PROXY": "*"},
        {"ALL_PROXY": "socks://h", "HTTPS_PROXY": "http://proxy:3128"},
        {"HTTP_PROXY": "socks://h"},
        {"HTTPS_PROXY": "socks://h", "GITHUB_API_URL": "http://localhost:1"},
        {
            "HTTPS_PROXY": "socks://h",
            "GITHUB_API_URL": "https://10.1.2.3",
            "NO_PROXY": "localhost, 10.0.0.0/8",
        },
        {"PGSSLMODE": "bogus"},
    ],
)
def test_an_invalid_variable_that_is_not_needed_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    assert load(monkeypatch, **variables).port == 8000


# The file


def file_refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        Settings.load(path)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"PORT=1\n# caf\xe9\nHOST=h\n", 2),
        ("PORT=1\n".encode("utf-16"), 1),
        (b'PORT=1\n\nDATABASE_URL="postgresql://h\n', 3),
        (b"PORT=1\n=2\n", 2),
    ],
    ids=["Latin-1", "UTF-16", "a quote that does not end", "no name"],
)
def test_a_line_of_the_env_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, line: int
) -> None:
    path = tmp_path / ".env"
    path.write_bytes(content)
    assert file_refusal(path).startswith(f"{path}, line {line}: ")


def test_a_folder_instead_of_the_env_file_is_named(tmp_path: Path) -> None:
    assert file_refusal(tmp_path).startswith(f"{tmp_path} is a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_env_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.touch(mode=0)
    assert file_refusal(path).startswith(f"{path} cannot be read (Permission denied)")


def test_an_env_file_of_windows_is_read(tmp_path: Path) -> None:
    """It begins with a byte order mark."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPORT=1\r\n")
    assert Settings.load(tmp_path / ".env").port == 1


@pytest.mark.parametrize("show", [repr, str, lambda settings: settings.model_dump_json()])
def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch, show: Any) -> None:
    url = f"postgresql://u:{SECRET}@h/d"
    assert SECRET not in show(load(monkeypatch, DATABASE_URL=url, GITHUB_TOKEN=SECRET))
