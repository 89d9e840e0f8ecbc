"""What goes over the wire: the request's body, the answer's body and its ETag."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, NamedTuple
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

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


_TRIMMED = StringConstraints(strip_whitespace=True, min_length=1, max_length=100)

Owner = Annotated[
    str,
    _TRIMMED,
    AfterValidator(_check_owner),
    WithJsonSchema(
        {
            "type": "string",
            "description": "The account on GitHub; white space around it is ignored.",
            "pattern": r"^\s*[A-Za-z0-9_-]{1,100}\s*$",
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
            "pattern": r"^\s*(?!\.{1,2}\s*$)[A-Za-z0-9._-]{1,100}\s*$",
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


class Repository(BaseModel):
    """A tracked repository, spelled as GitHub spells it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a",
                    "owner": "fastapi",
                    "repo_name": "fastapi",
                    "stars": 91234,
                }
            ]
        },
    )

    id: UUID
    owner: Annotated[str, Field(min_length=1, max_length=100)]
    repo_name: Annotated[str, Field(min_length=1, max_length=100)]
    stars: Annotated[int, Field(ge=0, le=2**31 - 1)]


class RepositoryRow(NamedTuple):
    """One row of `repositories`."""

    id: UUID
    owner: str
    repo_name: str
    stars: int

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


def represent(row: RepositoryRow) -> Representation:
    """Return the representation of a row; the one place where an ETag is made."""
    body = orjson.dumps(row._asdict())
    return Representation(row.id, body, f'"{blake2b(body, digest_size=16).hexdigest()}"')
