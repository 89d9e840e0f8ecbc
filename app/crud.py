"""All SQL: statements and flushes, but no commit; whoever calls owns the transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import args_row
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from app.models import GitHubLink, Repository

# Every query of whole records: the repository together with its link.
_RECORDS = select(Repository).join(Repository.link).options(contains_eager(Repository.link))


# Any number will do, as long as no other program uses it on the same database.
_NAMES_LOCK = 7_291_650_815


class RepositoryRow(NamedTuple):
    """One row of `repositories`."""

    id: UUID
    owner: str
    repo_name: str
    stars: int


async def read_many(
    connection: psycopg.AsyncConnection[Any], ids: Sequence[UUID]
) -> dict[UUID, RepositoryRow]:
    """Return the rows that exist among `ids`, by id, in one statement.

    This is the path of every GET. It uses the driver itself, because the ORM's share of the work
    would cost more than PostgreSQL's.
    """
    async with connection.cursor(binary=True, row_factory=args_row(RepositoryRow)) as cursor:
        await cursor.execute(
            "SELECT id, owner, repo_name, stars FROM repositories WHERE id = ANY(%s)", (ids,)
        )
        return {row.id: row for row in await cursor.fetchall()}


async def get(
    *, session: AsyncSession, repository_id: UUID, lock: bool = False
) -> Repository | None:
    """Return a record, locked until the transaction ends if asked."""
    statement = _RECORDS.where(Repository.id == repository_id)
    if lock:
        statement = statement.with_for_update()
    return (await session.scalars(statement)).one_or_none()


async def lock_by_github_ids(
    *, session: AsyncSession, github_ids: Collection[int]
) -> Sequence[Repository]:
    """Return the records of these repositories, locked until the transaction ends.

    They are locked in the order of their ids, so that two such transactions cannot deadlock.
    """
    statement = _RECORDS.where(GitHubLink.github_id.in_(github_ids)).order_by(Repository.id)
    return (await session.scalars(statement.with_for_update())).all()


async def lock_names(*, session: AsyncSession) -> None:
    """Let no other transaction that takes this lock rename records until this one ends.

    Where records trade names, each transaction would wait for the other's name: a deadlock.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_NAMES_LOCK)))


async def find_by_names(
    *, session: AsyncSession, names: Iterable[tuple[str, str]]
) -> Sequence[Repository]:
    """Return the records that hold any of these names (owner, name), whatever their case."""
    folded = [(owner.lower(), name.lower()) for owner, name in names]
    held = tuple_(func.lower(Repository.owner), func.lower(Repository.repo_name))
    return (await session.scalars(_RECORDS.where(held.in_(folded)))).all()


async def add(*, session: AsyncSession, repository: Repository) -> None:
    """Insert a record; the database refuses one whose name or number is taken."""
    session.add(repository)
    await session.flush()


async def rename(*, session: AsyncSession, names: Mapping[Repository, tuple[str, str]]) -> None:
    """Give each record its new name (owner, name), even where records trade names.

    The unique index is checked row by row, so where there are several they are all set aside
    first, for names that GitHub cannot give: no owner is empty.
    """
    if len(names) > 1:
        for repository in names:
            repository.owner, repository.repo_name = "", str(repository.id)
        await session.flush()
    for repository, (owner, name) in names.items():
        repository.owner, repository.repo_name = owner, name
    await session.flush()


async def remove(*, session: AsyncSession, repository_id: UUID) -> None:
    """Delete a record; the database deletes its link with it."""
    await session.execute(delete(Repository).where(Repository.id == repository_id))
