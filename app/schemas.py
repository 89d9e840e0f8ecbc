"""What is received and sent: the request's body, and the bytes and ETag of the answer's."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.models import NAME_LENGTH, Record

_RECORD = TypeAdapter(Record)

# GitHub's names (docs.github.com, "Username considerations" and "Repository limits"), as a guard
# for the URL and not as a naming policy: old and enterprise accounts break today's rules. RE2 and
# Rust's regex, which have no look-ahead, can read these patterns from the OpenAPI document.
_OWNER = f"[A-Za-z0-9_-]{{1,{NAME_LENGTH}}}"
# Neither "." nor "..": one dot or two may begin a name, if another character follows.
_REPO_NAME = (
    rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}"
    rf"|\.[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{NAME_LENGTH - 2}}}"
    rf"|\.\.[A-Za-z0-9._-]{{1,{NAME_LENGTH - 2}}}"
)
# ASCII white space, which is ignored around a name: its characters, and its pattern.
_SPACE = " \t\n\r\f\v"
_SPACES = r"[ \t\n\r\f\v]*"


def _trim(value: object) -> object:
    return value.strip(_SPACE) if isinstance(value, str) else value


def _check_owner(owner: str) -> str:
    if not re.fullmatch(_OWNER, owner):
        raise PydanticCustomError(
            "github_owner", "An owner on GitHub has only letters A-Z, digits, '-' and '_'"
        )
    return owner


def _check_repo_name(name: str) -> str:
    if not re.fullmatch(_REPO_NAME, name):
        raise PydanticCustomError(
            "github_repo_name",
            "A repository on GitHub has only letters A-Z, digits, '-', '_' and '.', "
            "and is not '.' or '..'",
        )
    return name


def _schema(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "string",
            "description": f"{description}; ASCII white space around it is ignored.",
            "pattern": f"^{_SPACES}({pattern}){_SPACES}$",
        }
    )


_LENGTH = StringConstraints(min_length=1, max_length=NAME_LENGTH)

Owner = Annotated[
    str,
    _LENGTH,
    BeforeValidator(_trim),
    AfterValidator(_check_owner),
    _schema(_OWNER, "The account on GitHub"),
]
RepoName = Annotated[
    str,
    _LENGTH,
    BeforeValidator(_trim),
    AfterValidator(_check_repo_name),
    _schema(_REPO_NAME, "The repository's name"),
]


class RepositoryReference(BaseModel):
    """Names a repository on GitHub."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"owner": "fastapi", "repo_name": "fastapi"}]},
    )

    owner: Owner
    repo_name: RepoName

    @property
    def full_name(self) -> str:
        """The name as GitHub writes it, `owner/repo_name`."""
        return f"{self.owner}/{self.repo_name}"


@dataclass(slots=True)
class Representation:
    """A record as it is sent: its id, the JSON body, and the strong ETag of that body."""

    id: UUID
    body: bytes
    etag: str


def represent(record: Record) -> Representation:
    """Return the representation of a record; the one place that makes an ETag."""
    body = _RECORD.dump_json(record)
    return Representation(record.id, body, f'"{blake2b(body, digest_size=16).hexdigest()}"')
