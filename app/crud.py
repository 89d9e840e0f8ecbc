"""All SQL: statements and flushes, but no commit; whoever calls owns the transaction."""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from psycopg.pq.abc import PGresult
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from app.models import GitHubLink, Repository
from app.schemas import RepositoryRow

# Every query of whole records: the repository together with its link.
_RECORDS = select(Repository).join(Repository.link).options(contains_eager(Repository.link))


# Any number will do, as long as no other program uses it on the same database.
_NAMES_LOCK = 7_291_650_815


_UUID_OID = 2950
_UUID_LENGTH = struct.pack("!i", 16)


# The path of every GET, for `statement.PreparedStatement`: the ORM's share of the work would cost
# more than PostgreSQL's.
READ_MANY = b"SELECT id, owner, repo_name, stars FROM repositories WHERE id = ANY($1::uuid[])"


def read_many_parameter(ids: Sequence[UUID]) -> bytes:
    """Return the parameter of READ_MANY: a uuid[] in PostgreSQL's binary form (array_send)."""
    header = struct.pack("!5i", 1, 0, _UUID_OID, len(ids), 1)
    return header + b"".join(_UUID_LENGTH + repository_id.bytes for repository_id in ids)


def read_many_rows(result: PGresult) -> dict[UUID, RepositoryRow]:
    """Return the rows of READ_MANY's binary result, by id."""
    value = result.get_value
    rows = [
        RepositoryRow(
            UUID(bytes=value(row, 0)),
            (value(row, 1) or b"").decode(),
            (value(row, 2) or b"").decode(),
            int.from_bytes(value(row, 3) or b""),
        )
        for row in range(result.ntuples)
    ]
    return {row.id: row for row in rows}


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
