"""The settings: environment variables, or lines of `.env`; `.env.example` explains each."""

import re
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv.parser import parse_stream
from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import PROJECT_DIR, environment
from app.embedded import default_data_dir
from app.errors import SettingsError
from app.postgres import url

ENCODING = "utf-8-sig"  # UTF-8; Windows puts a byte order mark before it.
_API_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", re.IGNORECASE)
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_ALLOWED_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


class Settings(BaseSettings):
    """The settings of every program; an invalid one is refused at the start."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    github_token: SecretStr | None = None
    github_api_url: str = "https://api.github.com"
    host: str = "127.0.0.1"
    port: int = Field(
        8000, ge=0, le=65535, description="a whole number from 0 to 65535, 0 for any free port"
    )
    root_path: str = ""
    forwarded_allow_ips: str = "127.0.0.1"
    workers: int = Field(1, ge=1, le=256, description="a whole number from 1 to 256")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    log_format: Literal["console", "json"] | None = Field(None, description="console or json")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("localhost", "127.0.0.1", "[::1]")
    data_dir: Path = Field(default_factory=lambda: default_data_dir(PROJECT_DIR))

    @classmethod
    def load(cls, env_file: Path | None = PROJECT_DIR / ".env") -> Self:
        """Read the environment and `.env`.

        Raises SettingsError with a line for each setting or variable that is invalid. No line has
        a value, except for the path of a file.
        """
        if env_file is not None:
            _check_env_file(env_file)
        try:
            settings = cls(_env_file=env_file, _env_file_encoding=ENCODING)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise SettingsError("\n".join(cls._sentence(problem) for problem in problems)) from None
        if sentences := settings._invalid_variables():
            raise SettingsError("\n".join(sentences))
        return settings

    @classmethod
    def _sentence(cls, problem: ErrorDetails) -> str:
        name = str(problem["loc"][0])
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] != "value_error":
            reason = f"give {cls.model_fields[name].description or 'another value'}"
        return f"{name.upper()}: {reason}"

    def _invalid_variables(self) -> list[str]:
        """Return a sentence for each invalid variable that our libraries read."""
        sentences = environment.invalid_variables(self.github_api_url)
        if self.database_url is not None:
            sentences += url.invalid_variables(self.database_url.get_secret_value())
        return sentences

    @field_validator("*", mode="before")
    @classmethod
    def _is_unquoted_utf8(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("give the value in UTF-8") from None
            # Docker's env files keep the quotes that a shell and .env take away.
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                raise ValueError("remove the quotes around the value")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            url.connection_parameters(value.get_secret_value())
        return value

    @field_validator("github_token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None:
            return None
        value = token.get_secret_value().strip()
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ValueError("a token is one word of ASCII characters")
        return SecretStr(value) if value else None

    @field_validator("github_api_url")
    @classmethod
    def _is_http_url(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if not (_API_URL.fullmatch(value) and _is_url(value)):
            raise ValueError(
                "give the address of GitHub's API, such as https://api.github.com; "
                "a token goes into GITHUB_TOKEN"
            )
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _ignore_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        hosts = tuple(host.strip().lower() for host in value.split(",") if host.strip())
        if not hosts or not all(_ALLOWED_HOST.fullmatch(host) for host in hosts):
            raise ValueError(
                "give names without ports, separated by commas, such as localhost or "
                "*.example.org, or * for any"
            )
        return hosts

    @field_validator("root_path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        path = path.strip().rstrip("/")
        if not _ROOT_PATH.fullmatch(path):
            raise ValueError("give the path below which a proxy serves this, such as /tracker")
        return path

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        try:
            for network in networks.split(","):
                if network.strip() != "*":
                    ip_network(network.strip())
        except ValueError:
            raise ValueError(
                "give addresses or networks of proxies, separated by commas, such as "
                "127.0.0.1,10.0.0.0/8, or * for any"
            ) from None
        return networks

    @field_validator("data_dir")
    @classmethod
    def _from_the_project(cls, path: Path) -> Path:
        try:
            return (PROJECT_DIR / path.expanduser()).absolute()
        except RuntimeError:
            raise ValueError(f"the home folder in {path} does not exist") from None


def _is_url(text: str) -> bool:
    try:
        TypeAdapter(HttpUrl).validate_python(text)
    except ValidationError:
        return False
    return True


def _check_env_file(path: Path) -> None:
    """Raise SettingsError if this file cannot be read, with the line if there is one."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; it has to be a file, or remove it")
    if not path.is_file():
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}); allow this user to read it, or remove it"
        ) from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SettingsError(f"{path}, line 1: the file is in UTF-16; save it in UTF-8")
    try:
        text = content.decode(ENCODING)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: this is not UTF-8; save the file in UTF-8"
        ) from None
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            statement = binding.original.string
            blank_lines = statement[: -len(statement.lstrip())].count("\n")
            line = binding.original.line + blank_lines
            raise SettingsError(f"{path}, line {line}: write NAME=value")
