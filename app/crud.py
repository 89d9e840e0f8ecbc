"""All SQL: statements and flushes, but no commit; whoever calls owns the transaction."""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from psycopg.pq.abc import PGresult
from sqlalchemy import bindparam, delete, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from app.models import Base, GitHubLink, Repository
from app.schemas import RepositoryRow

# Every query of whole records: the repository together with its link.
_RECORDS = select(Repository).join(Repository.link).options(contains_eager(Repository.link))


# Made once, and of tables instead of mapped classes: to make it costs as much as to run it.
_REPOSITORIES, _LINKS = (Base.metadata.tables[name] for name in ("repositories", "github_links"))
_NEW_REPOSITORY = (
    insert(_REPOSITORIES)
    .values({column: bindparam(f"new_{column}") for column in RepositoryRow._fields})
    .returning(_REPOSITORIES.c.id)
    .cte()
)
_LINK = [_LINKS.c[name] for name in ("github_id", "etag", "checked_at")]
_ADD = insert(_LINKS).from_select(
    [_LINKS.c.repository_id, *_LINK],
    select(_NEW_REPOSITORY.c.id, *(bindparam(f"new_{c.name}", type_=c.type) for c in _LINK)),
)

# Any number will do, as long as no other program uses it on the same database.
_NAMES_LOCK = 7_291_650_815


# As in PostgreSQL's catalog pg_type.
_TEXT_OID = 25
_UUID_OID = 2950

K = TypeVar("K")


class KeyedSelect(NamedTuple, Generic[K]):
    """A SELECT of the rows for many keys, for `statement.PreparedStatement`.

    It is on the way of every GET and POST, where the ORM's share of the work would cost more than
    PostgreSQL's. The one parameter is an array in PostgreSQL's binary form.
    """

    sql: bytes
    parameter: Callable[[Sequence[K]], bytes]
    key: Callable[[RepositoryRow], K]

    def rows(self, result: PGresult) -> dict[K, RepositoryRow]:
        """Return the rows of a binary result, by key."""
        value = result.get_value
        rows = [
            RepositoryRow(
                UUID(bytes=value(number, 0)),
                (value(number, 1) or b"").decode(),
                (value(number, 2) or b"").decode(),
                int.from_bytes(value(number, 3) or b""),
            )
            for number in range(result.ntuples)
        ]
        return {self.key(row): row for row in rows}


def _array(element_oid: int, elements: Sequence[bytes]) -> bytes:
    """Return a one-dimensional array as PostgreSQL's array_recv reads it."""
    header = struct.pack("!5i", 1, 0, element_oid, len(elements), 1)
    return header + b"".join(struct.pack("!i", len(element)) + element for element in elements)


BY_ID = KeyedSelect[UUID](
    b"SELECT id, owner, repo_name, stars FROM repositories WHERE id = ANY($1::uuid[])",
    lambda ids: _array(_UUID_OID, [repository_id.bytes for repository_id in ids]),
    lambda row: row.id,
)

# A key is the name in lower case, owner/repo_name.
BY_NAME = KeyedSelect[str](
    b"SELECT id, owner, repo_name, stars FROM unnest($1::text[]) AS name JOIN repositories"
    b" ON lower(owner) = split_part(name, '/', 1) AND lower(repo_name) = split_part(name, '/', 2)",
    lambda names: _array(_TEXT_OID, [name.encode() for name in names]),
    lambda row: row.full_name.lower(),
)


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


async def add(
    *, session: AsyncSession, row: RepositoryRow, github_id: int, etag: str | None
) -> None:
    """Insert a record in one statement; the database refuses a name or number that is taken."""
    values = {
        **row._asdict(),
        "github_id": github_id,
        "etag": etag,
        "checked_at": datetime.now(UTC),
    }
    await session.execute(_ADD, {f"new_{column}": value for column, value in values.items()})


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
