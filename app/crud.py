"""All SQL: statements and flushes, but no commit; whoever calls owns the transaction."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import Row, Text, cast, delete, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Check, GitHubLink, GitHubRepository, Record, Repository, Tracked

# What `Database.fetch` is: it takes a SELECT, the elements of its one parameter, and a deadline.
Fetch = Callable[[LiteralString, list[Any], float], Awaitable[list[tuple[Any, ...]]]]

# Every GET and POST waits for one of these. The ORM would cost more than PostgreSQL does.
_BY_ID = "SELECT id, owner, repo_name, stars FROM repositories WHERE id = ANY(%s)"
_BY_NAME = """
    SELECT id, owner, repo_name, stars FROM unnest(%s::text[]) AS name JOIN repositories
    ON lower(owner) = split_part(name, '/', 1) AND lower(repo_name) = split_part(name, '/', 2)
"""

# `repositories` is named first, so FOR UPDATE locks its row first, as a DELETE does.
_TRACKED = select(
    Repository.id,
    GitHubLink.github_id,
    Repository.owner,
    Repository.repo_name,
    Repository.stars,
    GitHubLink.etag,
    GitHubLink.checked_at,
    func.clock_timestamp(),
).join(GitHubLink, GitHubLink.repository_id == Repository.id)

_ADD = text("""
    WITH repository AS (
        INSERT INTO repositories (id, owner, repo_name, stars)
        VALUES (:id, :owner, :repo_name, :stars) RETURNING id
    )
    INSERT INTO github_links (repository_id, github_id, etag, checked_at)
    SELECT id, :github_id, :etag, clock_timestamp() FROM repository
""")

# `checked_at` only rises, also after PostgreSQL's clock was put back.
_STORE = text("""
    WITH said AS (
        SELECT repository_id, new.stars, new.etag,
            greatest(new.asked_at, checked_at + interval '1 microsecond') AS checked_at
        FROM unnest(
            CAST(:github_ids AS bigint[]), CAST(:stars AS integer[]),
            CAST(:etags AS text[]), CAST(:asked_at AS timestamptz[])
        ) AS new (github_id, stars, etag, asked_at) JOIN github_links USING (github_id)
    ), checked AS (
        UPDATE github_links SET etag = said.etag, checked_at = said.checked_at
        FROM said WHERE github_links.repository_id = said.repository_id
    )
    UPDATE repositories SET stars = said.stars
    FROM said WHERE id = said.repository_id AND repositories.stars <> said.stars
""")

# Any number will do, as long as no other program uses it on the same database.
_NAMES_LOCK = 7_291_650_815


async def read_by_id(fetch: Fetch, ids: list[UUID], deadline: float) -> dict[UUID, Record]:
    """Return the records with these ids."""
    return {row[0]: Record(*row) for row in await fetch(_BY_ID, ids, deadline)}


async def read_by_name(fetch: Fetch, names: list[str], deadline: float) -> dict[str, Record]:
    """Return the records with these names, each `owner/repo_name` in lower case."""
    records = [Record(*row) for row in await fetch(_BY_NAME, names, deadline)]
    return {record.full_name.lower(): record for record in records}


async def find(*, session: AsyncSession, repository_id: UUID) -> Tracked | None:
    """Return what is stored under this id."""
    row = (await session.execute(_TRACKED.where(Repository.id == repository_id))).one_or_none()
    return None if row is None else _tracked(row)


async def find_by_names(
    *, session: AsyncSession, names: Iterable[tuple[str, str]]
) -> Sequence[Tracked]:
    """Return what is stored under any of these names (owner, name), whatever their case."""
    folded = [(owner.lower(), name.lower()) for owner, name in names]
    held = tuple_(func.lower(Repository.owner), func.lower(Repository.repo_name))
    return [_tracked(row) for row in await session.execute(_TRACKED.where(held.in_(folded)))]


async def lock(*, session: AsyncSession, repository_id: UUID) -> Tracked | None:
    """Return what is stored under this id, locked until the transaction ends."""
    query = _TRACKED.where(Repository.id == repository_id).with_for_update()
    row = (await session.execute(query)).one_or_none()
    return None if row is None else _tracked(row)


async def lock_by_github_ids(
    *, session: AsyncSession, github_ids: Collection[int]
) -> dict[int, Tracked]:
    """Return what is stored under these numbers, by number, locked until the transaction ends.

    The rows are locked in the order of their ids, so that two such transactions cannot deadlock.
    """
    query = _TRACKED.where(GitHubLink.github_id.in_(github_ids)).order_by(Repository.id)
    rows = await session.execute(query.with_for_update())
    return {row.github_id: _tracked(row) for row in rows}


async def lock_names(*, session: AsyncSession) -> None:
    """Let no other transaction that takes this lock rename records until this one ends.

    If records trade names, each transaction would wait for the other's name: a deadlock.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_NAMES_LOCK)))


async def add(*, session: AsyncSession, record: Record, said: GitHubRepository) -> None:
    """Insert a record; the database refuses a name or a number that is taken."""
    await session.execute(
        _ADD,
        {
            "id": record.id,
            "owner": record.owner,
            "repo_name": record.repo_name,
            "stars": record.stars,
            "github_id": said.github_id,
            "etag": said.etag,
        },
    )


async def store(*, session: AsyncSession, checks: Collection[Check]) -> None:
    """Store counts and ETags of repositories that this transaction has locked, each one once.

    Locking and writing are two statements because the second one's snapshot has to be taken
    after the locks were granted.
    """
    await session.execute(
        _STORE,
        {
            "github_ids": [check.repository.github_id for check in checks],
            "stars": [check.repository.stars for check in checks],
            "etags": [check.repository.etag for check in checks],
            "asked_at": [check.asked_at for check in checks],
        },
    )


async def rename(*, session: AsyncSession, names: Mapping[UUID, tuple[str, str]]) -> None:
    """Give each record its new name (owner, name), also if records trade names.

    The unique index is checked row by row, so several records first get names that GitHub cannot
    give: no owner is empty.
    """
    if len(names) > 1:
        aside = update(Repository).where(Repository.id.in_(names))
        await session.execute(aside.values(owner="", repo_name=cast(Repository.id, Text)))
    for repository_id, (owner, name) in names.items():
        renamed = update(Repository).where(Repository.id == repository_id)
        await session.execute(renamed.values(owner=owner, repo_name=name))


async def remove(*, session: AsyncSession, repository_id: UUID) -> None:
    """Delete a record; the database deletes its link with it."""
    await session.execute(delete(Repository).where(Repository.id == repository_id))


def _tracked(row: Row[*tuple[Any, ...]]) -> Tracked:
    repository_id, *said, checked_at, read_at = row
    return Tracked(repository_id, Check(GitHubRepository(*said), checked_at), read_at)
