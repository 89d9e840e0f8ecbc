"""The tables, and the shapes of a repository: as GitHub describes it, as stored, as sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Characters in an owner's or a repository's name.
NAME_LENGTH = 100
# The largest value of PostgreSQL's `integer`.
MOST_STARS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A tracked repository, spelled as GitHub spells it."""

    id: UUID
    owner: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    repo_name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    stars: Annotated[int, Field(ge=0, le=MOST_STARS)]

    __pydantic_config__: ClassVar = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a",
                    "owner": "fastapi",
                    "repo_name": "fastapi",
                    "stars": 91234,
                }
            ]
        }
    )

    @property
    def full_name(self) -> str:
        """The name as GitHub writes it, `owner/repo_name`."""
        return f"{self.owner}/{self.repo_name}"


@dataclass(frozen=True, slots=True)
class GitHubRepository:
    """What the tracker takes from GitHub's answer; `github_id` stays when the name changes."""

    github_id: int
    owner: str
    name: str
    stars: int
    etag: str | None

    @property
    def full_name(self) -> str:
        """The name as GitHub writes it, `owner/repo_name`."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Check:
    """What GitHub said of a repository, and when it was asked, by PostgreSQL's clock."""

    repository: GitHubRepository
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Tracked:
    """What is stored of a repository: the check that was stored last.

    `read_at` is when it was read, by PostgreSQL's clock.
    """

    id: UUID
    last: Check
    read_at: datetime

    @property
    def record(self) -> Record:
        """The record as it stands."""
        said = self.last.repository
        return Record(self.id, said.owner, said.name, said.stars)

    def after(self, check: Check) -> Record:
        """Return the record as it stands once the check was stored, if it is to be stored."""
        last = self.last if self.is_overtaken(check) else check
        return Tracked(self.id, last, self.read_at).record

    def is_overtaken(self, check: Check) -> bool:
        """Return whether GitHub was asked for the check before it was for the last one.

        A last check in the future is one of a clock that was put back: it overtakes nothing.
        """
        return check.asked_at <= self.last.asked_at <= self.read_at


class Base(DeclarativeBase):
    """Names each constraint, so that migrations and error handling can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Repository(Base):
    """One row for each tracked repository: the columns of a Record."""

    __tablename__ = "repositories"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    # Names are ASCII. The collation keeps lower() and ORDER BY out of the database's language.
    owner: Mapped[str] = mapped_column(String(NAME_LENGTH, collation="C"))
    repo_name: Mapped[str] = mapped_column(String(NAME_LENGTH, collation="C"))
    stars: Mapped[int] = mapped_column(Integer)

    __table_args__ = (CheckConstraint("stars >= 0", name="stars_not_negative"),)


Index(
    "uq_repositories_owner_repo_name",
    func.lower(Repository.owner),
    func.lower(Repository.repo_name),
    unique=True,
)


class GitHubLink(Base):
    """The GitHub side of a repository: the number that survives renames, and the last check.

    `etag` came with the count in `repositories.stars`; `checked_at` is when the answer that was
    stored last was asked for.
    """

    __tablename__ = "github_links"

    repository_id: Mapped[UUID] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    github_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    etag: Mapped[str | None] = mapped_column(Text)
    checked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
