"""The tables: what is tracked, and what the tracker knows of its GitHub side."""

from datetime import datetime
from uuid import UUID

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
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.schemas import RepositoryRow

NAME_LENGTH = 100


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
    """A tracked repository, spelled as GitHub spells it."""

    __tablename__ = "repositories"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(NAME_LENGTH))
    repo_name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    stars: Mapped[int] = mapped_column(Integer)

    link: Mapped["GitHubLink"] = relationship(
        back_populates="repository", lazy="raise", passive_deletes=True
    )

    __table_args__ = (CheckConstraint("stars >= 0", name="stars_not_negative"),)

    @property
    def row(self) -> RepositoryRow:
        """The columns, without the ORM."""
        return RepositoryRow(self.id, self.owner, self.repo_name, self.stars)

    @property
    def full_name(self) -> str:
        """The name as GitHub writes it, `owner/repo_name`."""
        return self.row.full_name


Index(
    "uq_repositories_owner_repo_name",
    func.lower(Repository.owner),
    func.lower(Repository.repo_name),
    unique=True,
)


class GitHubLink(Base):
    """The GitHub side of a record: the identity that survives renames, and the last answer."""

    __tablename__ = "github_links"

    repository_id: Mapped[UUID] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    github_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    etag: Mapped[str | None] = mapped_column(Text)
    checked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    repository: Mapped[Repository] = relationship(back_populates="link", lazy="raise")
