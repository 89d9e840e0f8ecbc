"""What is received and sent: the request's body, and the bytes and ETag of the answer's."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.models import NAME_LENGTH, Record

_RECORD = TypeAdapter(Record)

# GitHub's names (docs.github.com, "Username considerations" and "Repository limits"), as a guard
# for the URL and not as a naming policy: old and enterprise accounts break today's rules.
_OWNER = re.compile(r"[A-Za-z0-9_-]+")
_REPO_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+")


def _check_owner(owner: str) -> str:
    if not _OWNER.fullmatch(owner):
        raise PydanticCustomError(
            "github_owner", "An owner on GitHub has only letters A-Z, digits, '-' and '_'"
        )
    return owner


def _check_repo_name(name: str) -> str:
    if not _REPO_NAME.fullmatch(name):
        raise PydanticCustomError(
            "github_repo_name",
            "A repository on GitHub has only letters A-Z, digits, '-', '_' and '.', "
            "and is not '.' or '..'",
        )
    return name


_TRIMMED = StringConstraints(strip_whitespace=True, min_length=1, max_length=NAME_LENGTH)

Owner = Annotated[
    str,
    _TRIMMED,
    AfterValidator(_check_owner),
    WithJsonSchema(
        {
            "type": "string",
            "description": "The account on GitHub; white space around it is ignored.",
            "pattern": rf"^\s*[A-Za-z0-9_-]{{1,{NAME_LENGTH}}}\s*$",
        }
    ),
]
RepoName = Annotated[
    str,
    _TRIMMED,
    AfterValidator(_check_repo_name),
    WithJsonSchema(
        {
            "type": "string",
            "description": "The repository's name; white space around it is ignored.",
            "pattern": rf"^\s*(?!\.{{1,2}}\s*$)[A-Za-z0-9._-]{{1,{NAME_LENGTH}}}\s*$",
        }
    ),
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
