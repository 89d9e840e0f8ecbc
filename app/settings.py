"""The settings: environment variables, or lines of `.env`; `.env.example` explains each."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import PROJECT_DIR
from app.embedded import default_data_dir
from app.errors import SettingsError
from app.postgres.url import connection_parameters

_API_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", re.IGNORECASE)
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
    workers: int = Field(1, ge=1, le=256, description="a whole number from 1 to 256")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    log_format: Literal["console", "json"] | None = Field(None, description="console or json")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("localhost", "127.0.0.1", "[::1]")
    data_dir: Path = Field(default_factory=lambda: default_data_dir(PROJECT_DIR))

    @classmethod
    def load(cls, env_file: Path | None = PROJECT_DIR / ".env") -> Self:
        """Read the environment and `.env`; raise SettingsError with a line per invalid setting."""
        try:
            return cls(_env_file=env_file)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise SettingsError("\n".join(cls._sentence(problem) for problem in problems)) from None

    @classmethod
    def _sentence(cls, problem: ErrorDetails) -> str:
        name = str(problem["loc"][0])
        allowed = cls.model_fields[name].description
        reason = f"give {allowed}" if allowed else problem["msg"].removeprefix("Value error, ")
        return f"{name.upper()}: {reason}"

    @field_validator("database_url")
    @classmethod
    def _is_postgresql_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            connection_parameters(url.get_secret_value())
        return url

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
    def _is_http_url(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not (_API_URL.fullmatch(url) and _is_url(url)):
            raise ValueError(
                "give the address of GitHub's API, such as https://api.github.com; "
                "a token goes into GITHUB_TOKEN"
            )
        return url

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
